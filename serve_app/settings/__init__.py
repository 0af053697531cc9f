"""Every setting, its default, its check, and how a file is read."""
