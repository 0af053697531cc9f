"""What routing is worth, measured without GPUs: real traces and virtual time."""
