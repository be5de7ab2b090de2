"""What watches the server: rules and alerts for Prometheus, dashboards for Grafana, and the check of both."""
