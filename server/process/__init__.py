"""What keeps the process running: supervisor, event-loop watchdog, background tasks, TLS, logs."""
