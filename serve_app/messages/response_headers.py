"""The response headers that explain where a request went, and why; `replicas.explain_headers` says which there are."""

EXPLAIN_PREFIX = "x-warmroute-"
REPLICA_HEADER = f"{EXPLAIN_PREFIX}replica"
REASON_HEADER = f"{EXPLAIN_PREFIX}reason"
POLICY_HEADER = f"{EXPLAIN_PREFIX}policy"
REQUEST_ID_HEADER = f"{EXPLAIN_PREFIX}request-id"
"""Only where a router placed the request, and there on every answer, unless headers are off."""
PROMPT_TOKENS_HEADER = f"{EXPLAIN_PREFIX}prompt-tokens"
BELIEVED_CACHED_TOKENS_HEADER = f"{EXPLAIN_PREFIX}believed-cached-tokens"
ROUTED_TO_HEADER = f"{EXPLAIN_PREFIX}routed-to"
"""Only when another replica served than the router chose."""

ENGINE_HEADER = f"{EXPLAIN_PREFIX}engine"
"""Only where it is not a real one: `simulated`."""

UNROUTED = "unrouted"
"""The reason of a response that no router asked for."""
