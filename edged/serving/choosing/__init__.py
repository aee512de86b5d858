"""Which runtime and precision of a release serves on this device, and the way back to it."""
