"""Metrics pages over HTTP: fetched within bounds, read per series; used by every source that scrapes."""
