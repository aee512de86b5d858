"""Runtimes: an artefact of a bundle becomes a session that runs.

One file a backend; each backend's package is imported inside its own file only. To add one, write
a file beside these and name it in ``registry.py``.
"""
