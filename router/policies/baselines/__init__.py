"""The policies of other routers, for comparison."""
