"""The gate: what every converted model must pass before it may be packed, one check a file."""
