"""Do several routers decide as one would, and what do lost messages and restarts cost? `python -m` runs it."""
