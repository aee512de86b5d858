"""Targets: what a bundle carries for a kind of device."""
