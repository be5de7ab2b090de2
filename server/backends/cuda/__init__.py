"""Graphs on GPUs."""

from server.backends.cuda.backend import CudaBackend, CudaElseCpu
from server.backends.cuda.devices import Devices

__all__ = ["CudaBackend", "CudaElseCpu", "Devices"]
