"""What the daemon measures of itself, by the names that scrapers read.

``catalogue`` is all of it; ``rollouts``, ``supply`` and ``broker/figures.py`` are parts of it.
``triton`` tells some of it under the names that Triton gives them.
"""
