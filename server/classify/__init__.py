"""The `/v1` surface: photos in, predictions with receipts out; what each model offers and what it would cost."""

from server.classify.handler import ClassifyHandler
from server.classify.models import ModelsHandler

__all__ = ["ClassifyHandler", "ModelsHandler"]
