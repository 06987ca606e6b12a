"""What was paid for and served nobody: ten tests in order, of which the first that fits owns an hour of a device."""
