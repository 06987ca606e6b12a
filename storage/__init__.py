"""What was seen, when, and how to read it back: the only place that knows SQL."""
