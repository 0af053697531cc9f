"""From the body of a request to token ids, exactly as the engine will see them."""
