"""`python -m monitoring.check` checks dashboards, rules and alerts with a real server, Prometheus and Alertmanager."""
