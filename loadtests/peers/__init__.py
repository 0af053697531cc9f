"""Rivals that only a simulation can run: they ask the simulated engines, or call another project's package.

The other baselines are in `router.policies`, because they may steer a real application too.

table           every policy by name
ray_prefix      Ray's own prefix tree under its router's rule
llmd_scraped    llm-d's rule on the engines' own metrics, as llm-d scrapes them
dynamo_service  Dynamo's own selection service, where its package is installed
dynamo_rule     Dynamo's cost on exact knowledge of the caches
pure_affinity   the longest match, whatever the load
greedy_oracle   perfect information about the engines, one request ahead
comparison      one row for each policy
"""
