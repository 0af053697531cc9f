"""What the order of waiting in a replica is worth, and what it costs."""
