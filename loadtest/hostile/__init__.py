"""Hostile messages, and how long each one holds up the event loop of a real server."""
