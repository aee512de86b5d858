"""TensorRT engines of this device: built here, sealed with its key, kept, and found again."""
