"""The request path: an inference server with adaptive compute budgets."""
