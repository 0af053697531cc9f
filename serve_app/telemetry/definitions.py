"""Every metric that Warmroute exports: one place for names, descriptions and labels.

They go out through Ray's metrics, from each router process, with its application's name; some also from the
operators' application, added up over time and under their own names. Dashboard and alert rules are
made from these definitions (`serve_app/monitoring/`), so they name nothing that is not here. Label values come from
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
    """It only grows: by its rate."""
    GAUGE = "gauge"
    """As it is now."""
    HISTOGRAM = "histogram"
    """By its buckets' rates."""


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """One metric, which is equal to itself alone: it is looked up several times for each request."""

    name: str
    kind: Kind
    description: str
    labels: tuple[str, ...]
    """Beside the application's."""

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
    "Prompt tokens by stage: offered by clients, reachable on the replica that held most, selected by the choice of a "
    "replica, reused by its engine; and of those that begin other prompts as well, shared and shared_reused.",
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
    "Replicas by what this router found of their keys: ok, unknown, or what is wrong.",
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
    "Replicas by how this router knows what they hold: by their engine's kv_events, or by receipts.",
    (RANK, "source"),
)
TOKENIZER = Metric(
    "warmroute_tokenizer",
    Kind.GAUGE,
    "Who makes token ids, fastokens or huggingface, in the replicas by rank, and in this router (rank `router`).",
    (RANK, "tokenizer"),
)
PENDING_TOKENS = Metric(
    "warmroute_pending_tokens",
    Kind.GAUGE,
    "Prompt tokens that a replica has still to compute, as this router has booked them.",
    (RANK,),
)
KV_USE = Metric(
    "warmroute_kv_use",
    Kind.GAUGE,
    "Share of a replica's KV cache that running requests take, 0 to 1, as its engine says.",
    (RANK,),
)
EXCLUDED = Metric(
    "warmroute_excluded", Kind.GAUGE, "Whether a replica is out of this router's choice, 1 or 0.", (RANK,)
)
UNDELIVERED = Metric(
    "warmroute_undelivered_reservations", Kind.COUNTER, "Decisions of which the other routers did not hear.", ()
)
SHADOW_LABELS = ("policy", "shadow")
SHADOWS = {
    name: Metric(f"warmroute_shadow_{name}", Kind.COUNTER, description, SHADOW_LABELS)
    for name, description in {
        "decisions": "Decisions to which the shadow has an answer.",
        "agreements": "Of these, those where it chose the same replica.",
        "regret_tokens": "Prefill tokens that its choices would have cost more, where the live decision was better.",
        "gain_tokens": "Prefill tokens that its choices would have spared, where the shadow's was better.",
        "failures": "Decisions without an answer, because the shadow had failed.",
    }.items()
}
"""By the fields of `ShadowTotals`."""

TTFT = Metric(
    "warmroute_ttft_seconds",
    Kind.HISTOGRAM,
    "Times to first token at the replicas, of prompts of which at least half was cached (warm) and of others (cold).",
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
"""Those that the operators' application alone exports: an observation of Ray's costs a tenth of a routing decision, and
of tenants there may be many."""

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
"""Those that routers export through Ray."""
