"""Processing: payloads to tensors and tensors to payloads. NumPy in, NumPy out."""
