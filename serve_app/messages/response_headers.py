"""The response headers that explain where a request went, and why; `replicas.explain_headers` says which there are."""

EXPLAIN_PREFIX = "x-warmroute-"
REPLICA_HEADER = f"{EXPLAIN_PREFIX}replica"
REASON_HEADER = f"{EXPLAIN_PREFIX}reason"
POLICY_HEADER = f"{EXPLAIN_PREFIX}policy"
REQUEST_ID_HEADER = f"{EXPLAIN_PREFIX}request-id"
"""Header of every answer to a request that a router placed, unless headers are off."""
PROMPT_TOKENS_HEADER = f"{EXPLAIN_PREFIX}prompt-tokens"
BELIEVED_CACHED_TOKENS_HEADER = f"{EXPLAIN_PREFIX}believed-cached-tokens"
ROUTED_TO_HEADER = f"{EXPLAIN_PREFIX}routed-to"
"""Header of an answer that another replica gave than the router chose."""

ENGINE_HEADER = f"{EXPLAIN_PREFIX}engine"
"""Header that says `simulated` where the engine is not a real one."""

UNROUTED = "unrouted"
"""The reason of a response to a request that no router placed."""
