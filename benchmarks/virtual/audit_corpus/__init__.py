"""Logs with known defects on real prompts, by which `warmroute audit` is judged: precision and recall of each kind."""
