"""The backend that runs graphs on GPUs."""

from server.backends.cuda.backend import CudaBackend, CudaOrCpuBackend
from server.backends.cuda.devices import Devices

__all__ = ["CudaBackend", "CudaOrCpuBackend", "Devices"]
