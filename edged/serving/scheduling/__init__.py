"""Whose run is next, with how many rows, and whether a request is let in at all: pure, mostly."""
