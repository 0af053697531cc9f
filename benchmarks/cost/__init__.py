"""What Warmroute itself costs: time of a decision, added latency, memory, the price of observing."""
