"""Clients of a running server: they speak only the wire."""
