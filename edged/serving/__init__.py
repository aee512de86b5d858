"""Serving: which release answers, when it runs, what keeps it alive. ``dataplane`` is the door.

Here lie releases and their lives, and what happens to one request. ``scheduling`` says whose run is
next, ``memory`` what may be loaded, ``choosing`` on which runtime, ``caching`` what is answered
without a run, ``sequences`` whose state a request has.
"""
