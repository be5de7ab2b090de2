"""The Open Inference Protocol over HTTP: everything below `/v2`."""

from server.oip.routes import Oip

__all__ = ["Oip"]
