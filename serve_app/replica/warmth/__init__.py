"""Prompts that replicas give each other: on joining, and on leaving."""
