"""Keys of prompts: chained block hashes of their tokens, and the ring key of a session."""
