"""Tenants and copies of sessions."""

from collections import Counter
from pathlib import Path
from random import Random

import pytest

from loadtests.replay.tenants import assign_tenants, copy_sessions, servegen_weights
from loadtests.replay.trace import Trace, TraceError, TraceKind, TraceRequest
from router import BlockHash


def request(session_id: str, *blocks: int) -> TraceRequest:
    """A turn."""
    return TraceRequest(0, 16 * len(blocks) + 1, 1, tuple(map(BlockHash, blocks)), session_id=session_id)


def test_tenants_share_nothing() -> None:
    """Requests of one prefix share it within a tenant, and never with another's; sessions stay whole."""
    requests = [request(f"s{session}", 1, 2, turn) for session in range(400) for turn in (3, 4)]
    assigned = assign_tenants(requests, tenant_to_weight={"a": 3, "b": 1}, rng=Random(1))
    tenant_to_first = {tenant: {each.block_hashes[:2] for each in assigned if each.tenant == tenant} for tenant in "ab"}
    assert len(tenant_to_first["a"]) == len(tenant_to_first["b"]) == 1
    assert tenant_to_first["a"] != tenant_to_first["b"]
    assert all(first.tenant == second.tenant for first, second in zip(assigned[::2], assigned[1::2], strict=True))
    assert Counter(each.tenant for each in assigned)["a"] / 800 == pytest.approx(0.75, abs=0.05)


def test_tenants_are_drawn_by_the_seed() -> None:
    """The same again for the same one."""
    requests = [request(f"s{session}", 1) for session in range(50)]
    first, again, other = (
        assign_tenants(requests, tenant_to_weight={"a": 1, "b": 1}, rng=Random(seed)) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_copies_share_what_several_sessions_share() -> None:
    """Block 1 is everybody's; 2 and 3 are the first session's own, so each copy has its own of them."""
    trace = Trace(TraceKind.SESSIONS, (request("a", 1, 2), request("a", 1, 2, 3), request("b", 1, 4)))
    copies = copy_sessions(trace, num_copies=3).requests
    assert copies[:3] == trace.requests
    assert Counter(each.session_id for each in copies) == {
        name: 2 if name.startswith("a") else 1 for name in ("a", "a copy 1", "a copy 2", "b", "b copy 1", "b copy 2")
    }
    assert {each.block_hashes[0] for each in copies} == {1}
    assert len({each.block_hashes[1] for each in copies if each.session_id.startswith("a")}) == 3
    for first, second in zip(copies[::3], copies[1::3], strict=True):
        assert second.block_hashes[:2] == first.block_hashes


def test_one_copy_is_the_trace_itself() -> None:
    """Nothing is renamed."""
    trace = Trace(TraceKind.SESSIONS, (request("a", 1, 2),))
    assert copy_sessions(trace, num_copies=1) == trace


CSV = "category,model,client,mean_rate_rps\nlanguage,m-large,0,0.5\nlanguage,m-large,1,0.25\nlanguage,m-small,0,9\n"


def test_servegen_clients_are_tenants(tmp_path: Path) -> None:
    """Those of one model, by their mean rate."""
    path = tmp_path / "clients.csv"
    path.write_text(CSV)
    assert servegen_weights(path, "m-large") == {"client-0": 0.5, "client-1": 0.25}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"cannot read tenants' rates .*clients\.csv"),
        ("a,b\n1,2\n", r"not ServeGen's client summary: KeyError"),
        (CSV.replace("0.25", "much"), r"not ServeGen's client summary: ValueError"),
        (CSV.replace("m-large", "m-mid"), r"no clients of model 'm-large': use one of m-mid, m-small"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str | None, message: str) -> None:
    """With the name and what is wrong."""
    path = tmp_path / "clients.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(TraceError, match=message):
        servegen_weights(path, "m-large")
