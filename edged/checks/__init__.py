"""What can be said of a configuration on this machine before anything is loaded."""
