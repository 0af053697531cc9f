"""Texts shipped with the project: the demo conversations and the text the demo tokenizer learns from."""
