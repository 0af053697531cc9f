"""Claims about real replicas, measured on a running server."""
