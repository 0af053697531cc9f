"""Keys of prompts: the chained block hashes of their tokens, and the ring key of a session."""
