"""The results of routing: where the tokens of prompts went, and what other policies would have reached."""
