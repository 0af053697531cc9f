"""A replica's KV events, from vLLM's publisher to the updates for the routers."""
