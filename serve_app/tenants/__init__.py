"""Whose a request is: API keys, the tenants they belong to, and what keeps these tenants' caches apart."""
