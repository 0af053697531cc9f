"""All situations, table by table."""

from collections.abc import Iterator
from itertools import product

from benchmarks.virtual.decision.disturbances import REPLICA_DISTURBANCES, ROUTER_DISTURBANCES
from benchmarks.virtual.decision.mixes import MIXES
from benchmarks.virtual.decision.situation import Changes, Situation, Table
from loadtests.replay.engine import EngineOptions
from loadtests.replay.generators import GENERATORS

CONVERSATION = "mooncake_conversation_first60"
SESSION_TRACES = (("derived_blocks_tau_airline", 0.25), ("derived_blocks_lmcache_miniswe", 1.0))
"""Traces, and copies of each session for each replica: few sessions cannot keep many replicas busy."""
WORKLOADS = ("reasoning", "mixed", "tenants", "chats", "burst")
SIZES = (4, 8, 16, 64)
KV_TOKENS = (150_000, 500_000, 2_000_000)
LOADS = (0.4, 0.6, 0.8, 1.0, 1.2)
SESSION_LOADS = (2.0, 6.0)
"""Agents' prompts hit to nine tenths, so that replicas are busy only at several times their speed without hits."""
MOST_SESSION_REPLICAS = 16
"""More replicas need many copies, so that a run takes minutes: only the least memory and most load are tried."""
USUAL = EngineOptions()
TOKENS_AT_DOUBLE = 32_768
QUADRATIC: Changes = (("attention_s", 2 / (USUAL.prefill_tokens_per_s * TOKENS_AT_DOUBLE)),)
"""A prompt of 32,768 tokens costs twice what its length alone would: of n tokens, n x n / 2 pairs are looked at."""
PREFILL_BOUND: Changes = (("decode_context_s", 0.0),)
"""The traces' loads are shares of what prefill can do, so what contexts cost is left out: with it, the conversation's
long prompts fill engines with decoding well below 1, and in little memory at 0.8."""
HALF_SPEED: Changes = (
    ("step_s", 2 * USUAL.step_s),
    ("prefill_tokens_per_s", USUAL.prefill_tokens_per_s / 2),
    ("decode_s", 2 * USUAL.decode_s),
    ("decode_context_s", 2 * USUAL.decode_context_s),
)
SPEEDS: tuple[tuple[str, float, Changes], ...] = (
    ("prefill x 3", 0.5, (("prefill_tokens_per_s", 3 * USUAL.prefill_tokens_per_s),)),
    ("prefill x 1/3", 0.8, (("prefill_tokens_per_s", USUAL.prefill_tokens_per_s / 3),)),
    ("attention", 0.4, QUADRATIC),
)
"""Variants, at loads that keep engines as busy as 0.8 usually does: attention doubles the trace's work, and at faster
prefill more answers come at the same load. For the same reason longer answers come at a load of 0.4."""
MIXED_KV = tuple((rank, (("kv_capacity_tokens", kv),)) for rank, kv in enumerate((250_000, 250_000, 750_000, 750_000)))
"""The other four have 500,000 tokens, so that all together have as much as ever."""
DELAYS_S = (0.0, 0.05, 0.25)
NUM_ROUTERS = (1, 4, 8)


def all_situations() -> tuple[Situation, ...]:
    """All situations in the order of the tables."""
    return (*_workloads(), *_conversation(), *_sessions(), *_agents(), *_robustness(), *_routers())


def _workloads() -> Iterator[Situation]:
    for name in WORKLOADS:
        yield _made(Table.WORKLOADS, name, name)


def _conversation() -> Iterator[Situation]:
    for num_replicas, kv_tokens, load in product(SIZES, KV_TOKENS, LOADS):
        name = f"conversation {num_replicas} x {kv_tokens // 1000}k load {load:g}"
        yield Situation(Table.TRACES, name, CONVERSATION, load, num_replicas, kv_tokens, engine=PREFILL_BOUND)


def _sessions() -> Iterator[Situation]:
    for (trace, copies), num_replicas, kv_tokens, load in product(SESSION_TRACES, SIZES, KV_TOKENS, SESSION_LOADS):
        if num_replicas > MOST_SESSION_REPLICAS and (kv_tokens, load) != (KV_TOKENS[0], SESSION_LOADS[-1]):
            continue
        name = f"{trace.split('_')[-1]} {num_replicas} x {kv_tokens // 1000}k load {load:g}"
        num_copies = max(1, round(copies * num_replicas))
        yield Situation(Table.TRACES, name, trace, load, num_replicas, kv_tokens, num_copies, engine=PREFILL_BOUND)


def _agents() -> Iterator[Situation]:
    for kv_tokens in KV_TOKENS:
        name = f"agents 8 x {kv_tokens // 1000}k"
        yield Situation(Table.TRACES, name, "agents", 1.0, kv_tokens=kv_tokens)


def _robustness() -> Iterator[Situation]:
    for workload, name, load in ((CONVERSATION, "conversation", 0.8), ("reasoning", "reasoning", 1.0)):
        yield _robust(name, "half speed", workload, 0.9 * load, rank_to_engine=((0, HALF_SPEED),))
        yield _robust(name, "mixed KV", workload, load, rank_to_engine=MIXED_KV)
        yield _robust(name, "told x 2", workload, load, told_factor=2.0)
        yield _robust(name, "told x 0.5", workload, load, told_factor=0.5)
    yield _robust("conversation", "answers x 5", CONVERSATION, 0.4, answer_factor=5.0)
    for variant, load, engine in SPEEDS:
        yield _robust("conversation", variant, CONVERSATION, load, engine=engine)
        title = f"{variant}, routers not told"
        yield _robust("conversation", title, CONVERSATION, load, engine=engine, is_told_usual_speed=True)
    for mix in MIXES:
        yield _robust("conversation", mix, CONVERSATION, 0.8, mix=mix)
    for disturbance in REPLICA_DISTURBANCES:
        yield _robust("conversation", disturbance, CONVERSATION, 0.8, disturbance=disturbance)


def _routers() -> Iterator[Situation]:
    for workload, name, load in ((CONVERSATION, "conversation", 0.8), ("reasoning", "reasoning", 1.0)):
        for num_routers, delay_s in product(NUM_ROUTERS, DELAYS_S):
            routers = "1 router" if num_routers == 1 else f"{num_routers} routers"
            title = f"{name}, {routers}, {delay_s * 1000:g} ms"
            yield Situation(Table.ROUTERS, title, workload, load, num_routers=num_routers, delay_s=delay_s)
    for disturbance in ROUTER_DISTURBANCES:
        title = f"conversation, 2 routers, {disturbance}"
        yield Situation(Table.ROUTERS, title, CONVERSATION, 0.8, num_routers=2, disturbance=disturbance)


def _made(table: Table, title: str, name: str) -> Situation:
    generator = GENERATORS[name]
    return Situation(table, title, name, 1.0, generator.num_replicas, generator.kv_tokens)


def _robust(name: str, variant: str, workload: str, load: float, **parameters: object) -> Situation:
    title = f"{name}, {variant}, load {load:g}"
    return Situation(Table.ROBUSTNESS, title, workload, load, **parameters)  # type: ignore[arg-type]
