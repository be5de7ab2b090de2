"""The request path: an inference server with adaptive compute budgets."""

__version__ = "0.1.0"
