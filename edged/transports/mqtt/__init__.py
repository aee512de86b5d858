"""Sessions with a broker, over either of two clients: ``native``, our own, and ``paho``.

``session`` and ``standing`` outlive connections, ``reconnect`` says when to try again; ``link`` and
``websocket_link`` carry the native client's bytes.
"""
