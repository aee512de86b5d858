"""Sources of bundles that an operator named: a registry, or files on a web server."""
