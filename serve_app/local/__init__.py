"""A Ray cluster on this machine: started, served from, and stopped."""
