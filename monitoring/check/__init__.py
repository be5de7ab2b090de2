"""Does everything that watches the server see it? `python -m monitoring.check` tries it with real parts on loopback."""
