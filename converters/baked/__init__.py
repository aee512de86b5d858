"""Pre-processing of pictures inside the model: the words, the reference, the nodes, the proof."""
