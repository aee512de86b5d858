"""Folders of ONNX Runtime GenAI, which make texts: packed into bundles with proven samples."""
