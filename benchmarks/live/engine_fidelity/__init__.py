"""Does a simulated engine do as vLLM does? One recorded run, sent again to simulated replicas at the same times."""
