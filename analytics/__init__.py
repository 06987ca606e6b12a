"""What the stored numbers mean: energy, latency, idle, cost."""
