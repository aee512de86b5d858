"""Device: read-only figures of the machine. Unknown is None, never 0."""
