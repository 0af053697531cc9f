"""What the measurements share: the running server and its processes, vLLM servers, load, snapshots, result rows."""
