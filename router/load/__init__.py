"""What is under way at each replica, how fast it is done, and which replicas may take more."""
