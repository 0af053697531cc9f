"""Rivals that only a simulation can run: they ask the simulated engines, or call another project's package.

The other baselines are in `router.policies`, because they may steer a real application too.

table           every policy by name
ray_prefix      Ray's own prefix tree under its router's rule
llmd_scraped    llm-d's rule on the engines' own metrics, as llm-d scrapes them
greedy_oracle   perfect information about the engines, one request ahead
"""
