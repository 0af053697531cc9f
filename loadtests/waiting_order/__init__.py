"""What the order of waiting in a replica is worth, and what it costs: `python -m loadtests.waiting_order`."""
