"""Bindings: messages of a broker become requests, and answers become messages.

``bindings`` works on what comes, one ``binding`` after another; ``work`` and its kinds (``pieces``,
``windowed``, ``joined``, ``sequenced``) are what becomes of one message. ``forwarding`` and
``feeds`` take answers by way of the disk; ``announcer``, ``questions`` and ``discovery`` speak of
the daemon; ``subscriber`` keeps the broker to what is wanted. Whatever client speaks to it,
``transports/mqtt`` has the sessions.
"""
