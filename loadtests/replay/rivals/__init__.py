"""Rivals that only a simulation can run: they ask the simulated engines, or call another project's package.

The other baselines are in `router.policies`, because they may steer a real application too.

table           every policy by name
ray_prefix      Ray's own prefix tree under its router's rule
llmd_scraped    llm-d's rule on the engines' own metrics, as llm-d scrapes them
dynamo_service  Dynamo's own selection service, where its package is installed
dynamo_rule     Dynamo's cost on exact knowledge of the caches
ray_kv_aware    the rule of Ray's KVAwareRouter, which is Dynamo's, on what Ray tells it
lmetric         LMetric: new prefill tokens times batch size
dualmap         DualMap: the better of two candidates that hashes give
pure_affinity   the longest match, whatever the load
greedy_oracle   perfect information about the engines, one request ahead
"""
