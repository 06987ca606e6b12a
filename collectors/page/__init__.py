"""The daemon's own metrics page: everything it knows right now, for Prometheus and for other Vatios."""
