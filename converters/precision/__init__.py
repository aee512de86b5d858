"""Precision: a proven float32 model made smaller and quicker, and kept only inside a budget."""
