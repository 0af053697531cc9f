"""Ray Serve from the outside: its REST API, its config, its environment variables, and calls to the routers."""
