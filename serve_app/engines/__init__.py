"""Engines that replicas may run besides vLLM's own: a simulated worker, one process, our order of waiting."""
