"""The server's process: its supervisor, event-loop watchdog, background tasks, TLS certificates and logs."""
