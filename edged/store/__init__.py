"""Store: bundles on disk, verified and activated so that a power cut leaves old or new, wholly."""
