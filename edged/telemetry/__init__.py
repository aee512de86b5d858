"""Telemetry: counters, health and logs. Plain integers on the hot path."""
