"""The way from a request's body to token ids, exactly as the engine will see them."""
