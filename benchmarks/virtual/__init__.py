"""Claims about the decision, measured in virtual time by the simulator."""
