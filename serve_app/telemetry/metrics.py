"""Every metric that Warmroute exports: one place for names, descriptions and labels.

They go out through Ray's metrics, from each router process, with its application's name; some also from the
operators' application, added up over time and under their own names. Dashboard and alert rules are
made from these definitions (`dashboard.py`, `alerts.py`), so they name nothing that is not here. Label values come from
closed sets: ranks, policies, reasons, causes; never a prompt, a hash or a client's words.
"""

from dataclasses import dataclass
from enum import StrEnum

APPLICATION = "application"
"""A label of every metric: a cluster serves a model in each application, and their replicas' ranks are alike."""
RANK = "rank"
"""A label of what is counted for each replica; it outlives the replica's process."""
TENANT = "tenant"
"""A label of what is counted for each tenant, whose names are in the settings."""


class Kind(StrEnum):
    """How a metric is read."""

    COUNTER = "counter"
    """It only grows, and is read by its rate."""
    GAUGE = "gauge"
    """It is read as it is now."""
    HISTOGRAM = "histogram"
    """It is read by the rates of its buckets."""


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """One metric, which is equal to itself alone: it is looked up several times for each request."""

    name: str
    kind: Kind
    description: str
    labels: tuple[str, ...]
    """Names of labels, without the application's."""

    @property
    def exported(self) -> str:
        """Its name in Prometheus: Ray puts its own before it, and a counter's ending after it."""
        return f"ray_{self.name}_total" if self.kind is Kind.COUNTER else f"ray_{self.name}"


DECISIONS = Metric("warmroute_decisions", Kind.COUNTER, "Routing decisions of this router.", ("policy", "reason"))
UNREADABLE = Metric(
    "warmroute_unreadable_prompts",
    Kind.COUNTER,
    "Requests whose prompt could not be tokenised; they go to the least loaded replica.",
    ("reason",),
)
PROMPTS = Metric(
    "warmroute_prompts", Kind.COUNTER, "Prompts that got their first token, once for each answer, by replica.", (RANK,)
)
PROMPT_TOKENS = Metric(
    "warmroute_prompt_tokens",
    Kind.COUNTER,
    "Prompt tokens by stage: offered by clients, reachable on the replica that had most of them cached, selected with "
    "the chosen replica, reused by its engine; and those in prefixes of several prompts, shared and shared_reused.",
    (RANK, "stage"),
)
LOST_TOKENS = Metric(
    "warmroute_lost_tokens",
    Kind.COUNTER,
    "Prompt tokens that were not reused, each by one cause: offered = reused + lost.",
    (RANK, "cause"),
)
KEY_PARITY = Metric(
    "warmroute_key_parity",
    Kind.GAUGE,
    "Replicas by this router's verdict on their keys: ok, unknown, or what is wrong.",
    (RANK, "verdict"),
)
SAMPLED_KEYS = Metric(
    "warmroute_sampled_keys",
    Kind.COUNTER,
    "Sampled requests whose token ids router and replica compared, by whether these were equal.",
    (RANK, "verdict"),
)
CACHE_KNOWLEDGE = Metric(
    "warmroute_cache_knowledge",
    Kind.GAUGE,
    "Replicas by how this router knows what they have cached: from their engine's kv_events, or from receipts.",
    (RANK, "source"),
)
TOKENIZER = Metric(
    "warmroute_tokenizer",
    Kind.GAUGE,
    "The tokenizer in use, fastokens or huggingface, of each replica by rank, and of this router (rank `router`).",
    (RANK, "tokenizer"),
)
PENDING_TOKENS = Metric(
    "warmroute_pending_tokens",
    Kind.GAUGE,
    "Prompt tokens that a replica has still to compute, as this router counts them.",
    (RANK,),
)
KV_USE = Metric(
    "warmroute_kv_use",
    Kind.GAUGE,
    "Share of a replica's KV cache that running requests take, 0 to 1, as its engine says.",
    (RANK,),
)
EXCLUDED = Metric("warmroute_excluded", Kind.GAUGE, "Whether this router sends a replica nothing, 1 or 0.", (RANK,))
UNDELIVERED = Metric(
    "warmroute_undelivered_reservations", Kind.COUNTER, "Decisions that the other routers did not hear of.", ()
)
SHADOW_LABELS = ("policy", "shadow")
SHADOWS = {
    name: Metric(f"warmroute_shadow_{name}", Kind.COUNTER, description, SHADOW_LABELS)
    for name, description in {
        "decisions": "Decisions to which the shadow had an answer.",
        "agreements": "Decisions to which the shadow had an answer, and chose the same replica.",
        "regret_tokens": "Prefill tokens that the shadow would have added, where the live decision was better.",
        "gain_tokens": "Prefill tokens that the shadow would have saved, where its decision was better.",
        "failures": "Decisions without an answer, because the shadow had failed.",
    }.items()
}
"""A metric for each field of `ShadowTotals`."""

TTFT = Metric(
    "warmroute_ttft_seconds",
    Kind.HISTOGRAM,
    "Times to first token at the replicas, of prompts that were at least half cached (warm) and of others (cold).",
    (RANK, "cache"),
)
TENANT_PROMPTS = Metric(
    "warmroute_tenant_prompts",
    Kind.COUNTER,
    "Prompts that got their first token, once for each answer, by tenant.",
    (TENANT,),
)
TENANT_PROMPT_TOKENS = Metric(
    "warmroute_tenant_prompt_tokens",
    Kind.COUNTER,
    "Prompt tokens by tenant, and by stage as in warmroute_prompt_tokens.",
    (TENANT, "stage"),
)
TENANT_LOST_TOKENS = Metric(
    "warmroute_tenant_lost_tokens",
    Kind.COUNTER,
    "Prompt tokens by tenant that were not reused, each by one cause: offered = reused + lost.",
    (TENANT, "cause"),
)
TENANT_TTFT = Metric(
    "warmroute_tenant_ttft_seconds",
    Kind.HISTOGRAM,
    "Times to first token by tenant, as in warmroute_ttft_seconds.",
    (TENANT, "cache"),
)
OPS_METRICS = (TTFT, TENANT_PROMPTS, TENANT_PROMPT_TOKENS, TENANT_LOST_TOKENS, TENANT_TTFT)
"""Metrics that the operators' application alone exports: an observation through Ray costs a tenth of a routing
decision, and there may be many tenants."""

METRICS = (
    DECISIONS,
    UNREADABLE,
    PROMPTS,
    PROMPT_TOKENS,
    LOST_TOKENS,
    KEY_PARITY,
    SAMPLED_KEYS,
    CACHE_KNOWLEDGE,
    TOKENIZER,
    PENDING_TOKENS,
    KV_USE,
    EXCLUDED,
    UNDELIVERED,
    *SHADOWS.values(),
)
"""Metrics that routers export through Ray."""
