"""Hostile messages, and how long each one blocks the event loop of a real server."""
