"""Every policy on the same requests: one row each."""
