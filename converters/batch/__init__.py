"""Many models in one go: a file lists them, processes convert them, a state remembers."""
