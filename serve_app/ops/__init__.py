"""The operators' application: what all routers count, added up over time, as a web page, JSON and metrics."""
