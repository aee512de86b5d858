"""Bundles on their way out: as an OCI image layout, and as a folder that builds a container."""
