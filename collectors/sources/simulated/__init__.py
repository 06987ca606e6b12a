"""A fleet without hardware, for the demo and for tests; everything it says is labelled simulated."""
