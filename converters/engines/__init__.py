"""TensorRT engines as artefacts of a bundle, built on the machine with the GPU that runs them."""
