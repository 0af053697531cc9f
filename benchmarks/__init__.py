"""What a routing decision costs: `make bench`. Not part of the tests, because a busy machine changes the numbers."""
