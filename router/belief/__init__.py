"""The caches of replicas: estimated from requests and receipts, or known from their engines' KV events."""
