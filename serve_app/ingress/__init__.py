"""The router process: it answers HAProxy, and receives what replicas and other routers report."""
