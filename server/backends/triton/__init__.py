"""The backend of a gateway: Triton Inference Servers run the graphs of the same model repository."""

from server.backends.triton.backend import TritonBackend

__all__ = ["TritonBackend"]
