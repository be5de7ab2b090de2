"""The Open Inference Protocol over HTTP: everything below `/v2`."""

from server.oip.surface import Oip

__all__ = ["Oip"]
