"""Checks of the application itself: replicas, routers, a request's way through both. Pure: facts in, finding out."""

from collections.abc import Iterator, Sequence

from serve_app.doctor.cluster_checks import LOGS
from serve_app.doctor.facts import ROUTERS_PER_NODE, Facts, Missing, RouterAnswers, Unsettled, is_heard
from serve_app.doctor.finding import Check, Finding, Problem, counted, failed, ok, skipped, warning
from serve_app.messages.response_headers import REQUEST_ID_HEADER
from serve_app.messages.snapshot import ReplicaSnapshot, RouterSnapshot, short_id
from serve_app.parity.verdicts import REMEDY, Verdict

UNPROVEN = (
    "Routing does not use it. Perhaps no prompt came again after it had left the GPU; otherwise see vLLM's log, and "
    "at what does not go together with offloading (docs/operate/second-tier.md)."
)
SLOW_TOKENIZER = (
    "Its token ids are right, and take tens of times as long (docs/concepts/keys.md). If that is meant, set "
    "tokenizer to huggingface."
)
MEANT_TOKENIZERS = ("fastokens", "huggingface: set so")
SUSPECT_AFTER_CACHES = 10
"""A second tier that gave nothing back is suspect once the engine has computed this many times the capacity of its
first tier: most of those tokens were evicted by then."""
SKEW = "Routers and replicas run different versions of Warmroute: finish the upgrade, or deploy again."


def check_replicas(facts: Facts) -> Finding:
    """All replicas run, each has its rank, and every router knows them."""
    server = None if facts.application is None else facts.application.server
    if server is None:
        return skipped(Check.REPLICAS, waits_for=Check.APPLICATION)
    if len(server.running) < server.target_num_replicas:
        text = f"{len(server.running)} of {server.target_num_replicas} replicas run"
        remedy = f"Wait if they start; otherwise {LOGS}. `ray status` tells whether resources are lacking."
        return failed(Check.REPLICAS, Problem(text, remedy))
    if isinstance(facts.routers, Missing) or not facts.routers.snapshots:
        return skipped(Check.REPLICAS, waits_for=Check.ROUTERS)
    problems = [
        problem for snapshot in facts.routers.snapshots for problem in _replica_problems(snapshot, server.running)
    ]
    if problems:
        return failed(Check.REPLICAS, *problems)
    ranks = "rank 0" if len(server.running) == 1 else f"ranks 0 to {len(server.running) - 1}"
    text = f"{len(server.running)} of {server.target_num_replicas} run, {ranks}"
    return ok(Check.REPLICAS, f"{text}, known to every router")


def _replica_problems(snapshot: RouterSnapshot, running: Sequence[str]) -> Iterator[Problem]:
    id_to_rank = {short_id(replica_id): replica.rank for replica_id, replica in snapshot.replicas.items()}
    unknown = [replica for replica in running if replica not in id_to_rank]
    if unknown:
        remedy = f"It may take seconds after a start; if it stays, {LOGS}: the router says what it lacks."
        yield Problem(f"router {snapshot.router} does not know replica {', '.join(unknown)}", remedy)
        return
    ranks = sorted(rank for replica, rank in id_to_rank.items() if replica in running)
    if ranks != list(range(len(running))):
        text = f"router {snapshot.router} sees the ranks {', '.join(map(str, ranks))}, not 0 to {len(running) - 1}"
        yield Problem(text, "Ranks settle within Serve's health check period; if they do not, restart the application.")


def check_routers(facts: Facts) -> Finding:
    """As many routers run as are wanted, all alike, and of the replicas' version."""
    if facts.application is None:
        return skipped(Check.ROUTERS, waits_for=Check.APPLICATION)
    if isinstance(facts.nodes, Missing) or facts.reference is None:
        return skipped(Check.ROUTERS, waits_for=Check.VERSIONS)
    if isinstance(facts.routers, Missing):
        return failed(Check.ROUTERS, Problem(facts.routers.why, f"For the reason {LOGS}."))
    per_node = facts.reference.number(ROUTERS_PER_NODE)
    problems = [*_count_problems(facts, per_node), *_router_problems(facts.routers)]
    if problems:
        return failed(Check.ROUTERS, *problems)
    if per_node == 1:
        text = "1 router on each node with a proxy: when it dies, requests fail until its successor is up"
        remedy = f"Set {ROUTERS_PER_NODE}=2 on the head (routers.replicas_per_node), and restart."
        return warning(Check.ROUTERS, Problem(text, remedy))
    first = facts.routers.snapshots[0]
    text = f"{len(facts.routers.snapshots)}, {per_node} on each node with a proxy; policy {first.policy}"
    return ok(Check.ROUTERS, text + (f", blocks of {first.block_size} tokens" if first.block_size else ""))


def _count_problems(facts: Facts, per_node: int) -> Iterator[Problem]:
    assert facts.application is not None
    assert not isinstance(facts.serve, Missing)
    routers = facts.application.routers
    num_running, num_nodes = len(routers.running) if routers else 0, len(facts.serve.proxy_nodes)
    if num_running != per_node * num_nodes:
        text = f"{counted(num_running, 'router')} run, not {per_node} on each of {num_nodes} nodes with a proxy"
        yield Problem(text, f"Wait if nodes come or go: Serve starts and stops routers by itself; if it stays, {LOGS}.")


def _router_problems(routers: RouterAnswers) -> Iterator[Problem]:
    snapshots = routers.snapshots
    if routers.errors:
        num_asked = len(snapshots) + len(routers.errors)
        text = f"{len(routers.errors)} of {num_asked} routers gave no answer: {routers.errors[0]}"
        yield Problem(text, f"For the reason {LOGS}.")
    for name, values in (
        ("policy", {snapshot.router: snapshot.policy for snapshot in snapshots}),
        ("block size", {snapshot.router: snapshot.block_size or "unknown" for snapshot in snapshots}),
    ):
        if len(set(values.values())) > 1:
            text = f"the routers differ in {name}: " + ", ".join(f"{value} in {at}" for at, value in values.items())
            yield Problem(text, "It may last a second after a change; after that, deploy again.")
    for snapshot in snapshots:
        for reason, count in snapshot.refused.items():
            yield Problem(
                f"router {snapshot.router} refused {counted(count, 'message')} since it started: {reason}", SKEW
            )


def check_request(facts: Facts) -> Finding:
    """A client's request is routed."""
    answer = facts.answer
    if answer is None:
        return skipped(Check.REQUEST, waits_for=Check.PORTS if facts.url_error else Check.APPLICATION)
    see = f"Look at the lines above on environment, ports and routers, or {LOGS}."
    if isinstance(answer, Missing):
        return failed(Check.REQUEST, Problem(f"{facts.target.url} gives no answer: {answer.why}", see))
    if answer.status >= 500:  # noqa: PLR2004  HTTP
        return failed(Check.REQUEST, Problem(f"{facts.target.url} answers {answer.status}: {answer.excerpt}", see))
    if not facts.is_routed and facts.application is not None and not facts.application.has_headers:
        text = (
            f"answered {answer.status}; whether a router placed it, answers do not say: replicas.explain_headers is off"
        )
        return warning(Check.REQUEST, Problem(text, "Set it to brief, which tells nothing of what is cached."))
    if not facts.is_routed:
        text = f"answered {answer.status}, but no router chose the replica (no {REQUEST_ID_HEADER})"
        remedy = f"HAProxy asked no router, or got no good answer, or --url leads past it. {see}"
        return failed(Check.REQUEST, Problem(text, remedy))
    place = f" to {short_id(answer.replica)} ({answer.reason})" if answer.replica else ""
    engine = f", by a {answer.engine} engine" if answer.engine else ""
    return ok(Check.REQUEST, f"routed{place}, answered {answer.status} in {answer.milliseconds:.0f} ms{engine}")


def check_receipts(facts: Facts) -> Finding:
    """The routers hear of the replicas, and of the end of what they routed."""
    if isinstance(facts.routers, Missing) or not facts.routers.snapshots:
        return skipped(Check.RECEIPTS, waits_for=Check.ROUTERS)
    silent = [problem for snapshot in facts.routers.snapshots for problem in _silent_replicas(snapshot)]
    lost = [_lost(unsettled) for unsettled in facts.routers.unsettled if unsettled.before == unsettled.in_engine == 0]
    if silent or lost:
        return failed(Check.RECEIPTS, *silent, *lost)
    if not facts.is_routed:
        return skipped(Check.RECEIPTS, waits_for=Check.REQUEST)
    if facts.routers.unsettled:
        return warning(Check.RECEIPTS, *(_busy(unsettled) for unsettled in facts.routers.unsettled))
    ages = [replica.heard_s_ago or 0.0 for _, _, replica in _replicas(facts.routers)]
    if not ages:
        return skipped(Check.RECEIPTS, waits_for=Check.REPLICAS)
    text = f"every router heard of every replica within {max(ages):.1f} s"
    return ok(Check.RECEIPTS, f"{text}, and of the request's end")


def _replicas(routers: RouterAnswers) -> Iterator[tuple[str, str, ReplicaSnapshot]]:
    """Every replica as every router sees it: the router's id, the replica's short id, and the replica."""
    for snapshot in routers.snapshots:
        for replica_id, replica in snapshot.replicas.items():
            yield snapshot.router, short_id(replica_id), replica


def _silent_replicas(snapshot: RouterSnapshot) -> Iterator[Problem]:
    remedy = f"Its receipts do not arrive, and it logs why: {LOGS}."
    for replica_id, replica in snapshot.replicas.items():
        place = f"of replica {short_id(replica_id)}"
        if replica.heard_s_ago is None:
            yield Problem(f"router {snapshot.router} never heard {place}", remedy)
        elif not is_heard(replica):
            text = f"router {snapshot.router} has not heard {place} for {replica.heard_s_ago:.1f} s"
            yield Problem(text, remedy)


def _lost(unsettled: Unsettled) -> Problem:
    replica, sequences = short_id(unsettled.replica), counted(unsettled.after, "sequence")
    text = f"router {unsettled.router} still counts {sequences} at replica {replica}, whose engine reports none"
    remedy = f"The replica's next heartbeat should have corrected that; it logs why a delivery fails: {LOGS}."
    return Problem(text, remedy)


def _busy(unsettled: Unsettled) -> Problem:
    replica, sequences = short_id(unsettled.replica), counted(unsettled.after, "sequence")
    text = f"router {unsettled.router} counts {sequences} at replica {replica}, {unsettled.before} before ours"
    return Problem(f"{text}: more traffic, or lost receipts", "Run this command again when there is less traffic.")


def check_exclusions(facts: Facts) -> Finding:
    """Every replica is eligible for every router."""
    if isinstance(facts.routers, Missing) or not facts.routers.snapshots:
        return skipped(Check.EXCLUSIONS, waits_for=Check.ROUTERS)
    texts = [
        f"router {router} sends nothing to replica {replica_id}: {replica.excluded}"
        for router, replica_id, replica in _replicas(facts.routers)
        if replica.excluded is not None
    ]
    if texts:
        remedy = f"It ends when the replica is heard of and reached again; if it stays, {LOGS}."
        return failed(Check.EXCLUSIONS, *(Problem(text, remedy) for text in texts))
    return ok(Check.EXCLUSIONS, "no router leaves out a replica")


def check_parity(facts: Facts) -> Finding:
    """Every replica finds prompts by every router's keys."""
    if isinstance(facts.routers, Missing) or not facts.routers.snapshots:
        return skipped(Check.PARITY, waits_for=Check.ROUTERS)
    verdicts = {
        (router, replica_id, replica.rank): _verdict(replica)
        for router, replica_id, replica in _replicas(facts.routers)
        if replica.parity != Verdict.OK
    }
    problems = [
        Problem(f"router {router}: key parity of replica {replica} (rank {rank}) is {verdict}", REMEDY[verdict])
        for (router, replica, rank), verdict in verdicts.items()
    ]
    if any(verdict.is_broken for verdict in verdicts.values()):
        return failed(Check.PARITY, *problems)
    if problems:
        return warning(Check.PARITY, *problems)
    return ok(Check.PARITY, "every replica finds prompts by every router's keys")


def _verdict(replica: ReplicaSnapshot) -> Verdict:
    """The router's verdict; `unknown` for one that only another version knows."""
    return Verdict(replica.parity) if replica.parity in set(Verdict) else Verdict.UNKNOWN


def check_tokenizer(facts: Facts) -> Finding:
    """The fast tokenizer is used, unless it is meant not to be."""
    if isinstance(facts.routers, Missing) or not facts.routers.snapshots:
        return skipped(Check.TOKENIZER, waits_for=Check.ROUTERS)
    tokenizers = dict.fromkeys(_tokenizers(facts.routers))  # each once: a replica is seen by every router
    problems = [
        Problem(f"{place} uses {tokenizer}", SLOW_TOKENIZER)
        for place, tokenizer in tokenizers
        if tokenizer not in MEANT_TOKENIZERS
    ]
    if problems:
        return warning(Check.TOKENIZER, *problems)
    kinds = sorted({tokenizer.partition(":")[0] for _, tokenizer in tokenizers})
    return ok(Check.TOKENIZER, " and ".join(kinds) or "none is loaded yet")


def _tokenizers(routers: RouterAnswers) -> Iterator[tuple[str, str]]:
    for snapshot in routers.snapshots:
        if snapshot.prompts is not None:
            yield f"router {snapshot.router}", snapshot.prompts.tokenizer
        for replica_id, replica in snapshot.replicas.items():
            if replica.tokenizer:
                yield f"replica {short_id(replica_id)}", replica.tokenizer


def check_tiers(facts: Facts) -> Finding:
    """A second tier that is configured gives something back, once the first one had to evict."""
    if isinstance(facts.routers, Missing) or not facts.routers.snapshots:
        return skipped(Check.TIERS, waits_for=Check.ROUTERS)
    tiered = {
        replica_id: replica for _, replica_id, replica in _replicas(facts.routers) if replica.host_capacity_tokens
    }
    if not tiered:
        return ok(Check.TIERS, "no replica has a second one")
    problems = [
        Problem(f"nothing ever came back from the second tier of replica {replica_id}", UNPROVEN)
        for replica_id, replica in tiered.items()
        if _is_tier_suspect(replica)
    ]
    if problems:
        return warning(Check.TIERS, *problems)
    num_proven = sum(_has_reloaded(replica) for replica in tiered.values())
    return ok(
        Check.TIERS, f"{counted(len(tiered), 'replica')} with a second one; something came back from {num_proven}"
    )


def _has_reloaded(replica: ReplicaSnapshot) -> bool:
    """Whether anything came back from the replica's second tier."""
    return replica.engine is not None and replica.engine.external_cached_tokens > 0


def _is_tier_suspect(replica: ReplicaSnapshot) -> bool:
    """Whether nothing came back, although the engine computed many times what its first tier can cache."""
    if replica.engine is None or _has_reloaded(replica):
        return False
    computed_tokens = replica.engine.prompt_tokens - replica.engine.cached_tokens
    return computed_tokens > SUSPECT_AFTER_CACHES * replica.kv_capacity_tokens
