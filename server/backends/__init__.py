"""Backends, which load model families and run their graphs: onnxruntime on CPU or GPUs, Triton, and a fake one."""
