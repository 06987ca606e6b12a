"""What managers read: the week."""
