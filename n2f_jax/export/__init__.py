"""The network for PyTorch and ONNX, and back. ``torch_n2fnet`` is for machines without JAX."""
