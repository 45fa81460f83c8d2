"""Exported models: proven against PyTorch, ending in one driver, in INT8, checked for TensorRT."""
