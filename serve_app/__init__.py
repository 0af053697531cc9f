"""Warmroute on Ray Serve: adapters around the routing core in `router/`."""
