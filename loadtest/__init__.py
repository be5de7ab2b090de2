"""Clients of a running server: they use its public interfaces only, and import nothing of it."""
