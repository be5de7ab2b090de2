"""The HTTP application: its routes, its start and end, its pages, and the one renderer of errors."""

from server.app.app import App, create_app

__all__ = ["App", "create_app"]
