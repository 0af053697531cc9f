"""Ids that say where a response is stored."""

from router import ReplicaId
from serve_app.messages.response_ids import new_response_id, stored_at

REPLICA_IDS = tuple(ReplicaId(f"app#LLM#{number}") for number in range(100))


def test_an_id_says_which_replica_made_it() -> None:
    """Among any others."""
    for replica_id in REPLICA_IDS:
        assert stored_at(new_response_id(replica_id), REPLICA_IDS) == replica_id


def test_no_two_ids_are_the_same() -> None:
    """And each looks like vLLM's own, and like nothing of the replica."""
    ids = {new_response_id(REPLICA_IDS[0]) for _ in range(100)}
    assert len(ids) == 100
    assert all(each.startswith("resp_") and "LLM" not in each for each in ids)


def test_ids_of_others_say_nothing() -> None:
    """Of a replica that is gone, of vLLM's own making, of a client's."""
    for response_id in (new_response_id("app#LLM#gone"), "resp_" + 32 * "0", "resp_", ""):
        assert stored_at(response_id, REPLICA_IDS) is None
