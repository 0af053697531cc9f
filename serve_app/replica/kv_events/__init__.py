"""From the KV events of vLLM to updates for the routers."""
