"""Where power and energy go."""
