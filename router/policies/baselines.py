"""Where `LeastLoaded` used to be."""

from router.policies.least_loaded import LeastLoaded

__all__ = ["LeastLoaded"]
