"""The Open Inference Protocol over HTTP: ``endpoint`` listens, and each client is a ``peer``."""
