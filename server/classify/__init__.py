"""The `/v1` surface: images in, predictions with receipts out; what each model offers, and what it would cost."""

from server.classify.handler import ClassifyHandler
from server.classify.models import ModelsHandler

__all__ = ["ClassifyHandler", "ModelsHandler"]
