"""Configuration: YAML files become one frozen Config; every error carries file and line."""
