"""Every claim of the documentation that a program here measures: its name, what it asks, and what it needs.

Nothing is imported: a claim's module is loaded when it runs, because some of them take seconds to import.
"""

from dataclasses import dataclass
from enum import StrEnum


class Need(StrEnum):
    """What has to be there before the claim can be measured."""

    NOTHING = "nothing"
    OWN_ENGINES = "own engines"
    """It starts its own engines, or a cluster of its own, on this machine, and stops them again."""
    SERVER = "a running `warmroute serve`"
    """A server in another terminal, started from the same folder."""
    GPU = "a GPU"
    """A GPU that no one else uses; a CPU will do to try the program out."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim, and the module whose `app` measures it."""

    name: str
    asks: str
    need: Need
    module: str


CLAIMS = {
    claim.name: claim
    for claim in (
        Claim(
            "decision_time",
            "How long does a routing decision take in the core, by replicas, blocks and length of the prompt?",
            Need.NOTHING,
            "benchmarks.cost.decision_time",
        ),
        Claim(
            "decision",
            "Is our routing decision as good as every rival's, over traces, prompts, engines, routers and failures?",
            Need.NOTHING,
            "benchmarks.virtual.decision.command",
        ),
        Claim(
            "autoscaling",
            "Does our autoscaling policy need fewer replicas than Ray Serve's default for the same TTFT?",
            Need.NOTHING,
            "benchmarks.virtual.autoscaling.command",
        ),
        Claim(
            "audit_corpus",
            "How often does `warmroute audit` find a known defect, and how often a defect that is not there?",
            Need.NOTHING,
            "benchmarks.virtual.audit_corpus.command",
        ),
        Claim(
            "audit_speed",
            "How long does `warmroute audit` take for a million requests, and how much memory?",
            Need.NOTHING,
            "benchmarks.cost.audit_speed",
        ),
        Claim(
            "router_memory",
            "Is a router's memory bounded by its settings, whoever sends requests?",
            Need.NOTHING,
            "benchmarks.cost.router_memory",
        ),
        Claim(
            "route_cost",
            "What does a routing decision cost over HTTP, compared with Ray's own routers?",
            Need.OWN_ENGINES,
            "benchmarks.cost.route_cost.command",
        ),
        Claim(
            "observation_cost",
            "How much CPU time do KV events, request log, shadow policy and the operators' application cost?",
            Need.OWN_ENGINES,
            "benchmarks.cost.observation_cost",
        ),
        Claim(
            "scaling",
            "What does a change of the number of replicas cost in hit rate and TTFT, with warm-up and without?",
            Need.OWN_ENGINES,
            "benchmarks.cost.scaling",
        ),
        Claim(
            "key_parity",
            "Are the token ids that the router reads those that vLLM gets, on every endpoint?",
            Need.OWN_ENGINES,
            "benchmarks.keys.command",
        ),
        Claim(
            "audit_promise",
            "Does an engine reuse as much as `warmroute audit` promises, before and after `--fix`?",
            Need.OWN_ENGINES,
            "benchmarks.live.audit_promise",
        ),
        Claim(
            "waiting_order",
            "What is the order of waiting in a replica worth, and what does it cost?",
            Need.OWN_ENGINES,
            "benchmarks.live.waiting_order.command",
        ),
        Claim(
            "ray_service",
            "Does a RayService's manifest, read from the standard input, serve on this machine as it is?",
            Need.OWN_ENGINES,
            "benchmarks.live.ray_service",
        ),
        Claim(
            "added_latency",
            "What do HAProxy and router add to a replica's answer, and where is that time spent?",
            Need.SERVER,
            "benchmarks.cost.added_latency",
        ),
        Claim(
            "cache_parity",
            "Does the simulator reuse exactly what vLLM reuses, request by request?",
            Need.SERVER,
            "benchmarks.live.cache_parity.command",
        ),
        Claim(
            "engine_fidelity",
            "Does a simulated engine behave as vLLM does, given the same requests at the same times?",
            Need.SERVER,
            "benchmarks.live.engine_fidelity.command",
        ),
        Claim(
            "failures",
            "What do clients notice when engines, replicas or routers die, or when too many requests come?",
            Need.SERVER,
            "benchmarks.live.failures.command",
        ),
        Claim(
            "large_bodies",
            "Do request bodies of the largest size that routers read slow down ordinary requests?",
            Need.SERVER,
            "benchmarks.live.large_bodies.command",
        ),
        Claim(
            "parity_alarms",
            "Is a replica that deviates from the others noticed in time, while every request is answered?",
            Need.SERVER,
            "benchmarks.live.parity_alarms",
        ),
        Claim(
            "soak",
            "Under hours of steady traffic, does memory stay flat, and does every request end as it should?",
            Need.SERVER,
            "benchmarks.live.soak.command",
        ),
        Claim(
            "gpu",
            "What are routing, caching and a second tier worth on one real GPU?",
            Need.GPU,
            "benchmarks.gpu.command",
        ),
    )
}
"""Claims by name; those that need the least come first."""
