"""Processes that host models apart from the daemon: trials, isolated models, and copies for trials.

Two sides. In the child: ``worker`` (one session on one socket), ``call`` (the shortest ways to it),
``text`` (texts in pieces), ``host`` (many workers in one process) and ``forks`` (what trials are
copied from). In the parent, from below: ``process`` (started and ended), ``link`` (bytes to and
from it), ``run`` (fixed memory), ``blame`` (whose doing a death was), ``shared`` and ``forked``
(who lives where), ``session``, ``side`` (several ways to one model), ``streaming``, and
``isolation``, a runtime like any other to whoever loads a model.
"""
