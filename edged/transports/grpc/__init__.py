"""The Open Inference Protocol over gRPC, on an HTTP/2 of our own.

``endpoint`` listens; ``http2_peer`` and ``http2_calls`` carry calls, ``service`` answers them.
"""
