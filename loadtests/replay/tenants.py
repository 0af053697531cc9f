"""Tenants of requests, and what is shared: tenants never share blocks, copies of a session share only what many do."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import xxhash

from loadtests.replay.trace import Trace, TraceError, TraceRequest
from router import BlockHash


def assign_tenants(
    requests: Sequence[TraceRequest], *, tenant_to_weight: Mapping[str, float], rng: Random
) -> tuple[TraceRequest, ...]:
    """Every session to a tenant drawn by weight, whose seed goes into its hashes, as a tenant's salt does in life."""
    sessions = dict.fromkeys(request.session_id for request in requests)
    drawn = rng.choices(list(tenant_to_weight), weights=list(tenant_to_weight.values()), k=len(sessions))
    session_to_tenant = dict(zip(sessions, drawn, strict=True))
    tenant_to_seed = {tenant: xxhash.xxh3_64_intdigest(tenant.encode()) for tenant in tenant_to_weight}
    return tuple(
        replace(
            request,
            tenant=(tenant := session_to_tenant[request.session_id]),
            block_hashes=tuple(_salted(each, tenant_to_seed[tenant]) for each in request.block_hashes),
        )
        for request in requests
    )


def copy_sessions(trace: Trace, *, num_copies: int) -> Trace:
    """Copies of each session: blocks that several sessions have stay common to all, the others are each copy's own.

    The requests of a trace of sessions, whose predecessors are found again when sessions are started.
    """
    block_to_num_sessions = Counter(block for blocks in _session_to_blocks(trace.requests).values() for block in blocks)
    copies = list(trace.requests)
    for number in range(1, num_copies):
        copies += (
            replace(
                request,
                session_id=f"{request.session_id} copy {number}",
                block_hashes=tuple(
                    each if block_to_num_sessions[each] > 1 else _salted(each, number) for each in request.block_hashes
                ),
            )
            for request in trace.requests
        )
    return replace(trace, requests=tuple(copies))


def servegen_weights(path: Path, model: str) -> dict[str, float]:
    """Mean request rates of one model's clients, from ServeGen's client summary (github.com/alibaba/ServeGen).

    Raises:
        TraceError: the file is absent or another, or has no such model.

    """
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        weights = {f"client-{row['client']}": float(row["mean_rate_rps"]) for row in rows if row["model"] == model}
        models = sorted({row["model"] for row in rows})
    except OSError as error:
        raise TraceError(f"cannot read tenants' rates {path}: {error.strerror}; give an existing file") from error
    except (KeyError, ValueError) as error:
        raise TraceError(f"{path} is not ServeGen's client summary: {type(error).__name__}: {error}") from error
    if not weights:
        raise TraceError(f"{path} has no clients of model {model!r}: use one of {', '.join(models)}")
    return weights


def _session_to_blocks(requests: Sequence[TraceRequest]) -> dict[str, set[BlockHash]]:
    session_to_blocks: dict[str, set[BlockHash]] = {}
    for request in requests:
        session_to_blocks.setdefault(request.session_id, set()).update(request.block_hashes)
    return session_to_blocks


def _salted(block_hash: BlockHash, seed: int) -> BlockHash:
    return BlockHash(xxhash.xxh3_64_intdigest(block_hash.to_bytes(8, "little"), seed))
