"""What became of prompts: where their tokens went, and what other policies would have made of them."""
