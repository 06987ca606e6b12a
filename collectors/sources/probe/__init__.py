"""Endpoints measured by asking them: off unless configured, under a spend cap."""
