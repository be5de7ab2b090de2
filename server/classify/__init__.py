"""The `/v1` surface: photos in, predictions with receipts out; what each model offers and what it would cost."""

from server.classify.handler import Classify
from server.classify.models import Models

__all__ = ["Classify", "Models"]
