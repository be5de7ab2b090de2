"""Scripted faults against a server of its own, each with a verdict."""
