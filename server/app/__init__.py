"""The HTTP application: route table, lifespan, error renderer."""

from server.app.app import App, create_app

__all__ = ["App", "create_app"]
