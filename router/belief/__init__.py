"""What replicas hold in their caches: estimated from requests and receipts, or known from their engines' KV events."""
