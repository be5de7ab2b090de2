"""Monitoring of the server: rules and alerts for Prometheus, dashboards for Grafana, and a check of both."""
