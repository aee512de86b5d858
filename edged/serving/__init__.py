"""Serving: which release answers, when it runs, what keeps it alive. ``dataplane`` is the door."""
