"""Outstanding work of each replica, the speed at which it is done, and the health of each replica."""
