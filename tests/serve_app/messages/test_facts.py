"""What replicas publish about themselves, also of another version."""

from serve_app.messages.facts import METADATA_KEY, ReplicaFacts

FACTS = ReplicaFacts(rank=1, block_size=32, kv_capacity_tokens=640, host_capacity_tokens=6400)


def test_facts_are_read_as_they_were_published() -> None:
    """From the first of the places that has them."""
    assert ReplicaFacts.from_metadata({}, FACTS.as_metadata()) == FACTS
    assert ReplicaFacts.from_metadata({"other": 1}) is None


def test_a_later_versions_facts_are_passed_over() -> None:
    """And those that this version needs are used."""
    entry = FACTS.as_metadata()[METADATA_KEY] | {"later": 7}
    assert ReplicaFacts.from_metadata({METADATA_KEY: entry}) == FACTS


def test_an_earlier_version_that_lacks_a_fact_has_published_nothing() -> None:
    """Such a replica is not routed to, and the router logs that."""
    entry = FACTS.as_metadata()[METADATA_KEY]
    del entry["rank"]
    assert ReplicaFacts.from_metadata({METADATA_KEY: entry}) is None


def test_an_earlier_version_that_knew_of_no_second_tier_has_none() -> None:
    """During an upgrade it goes on being routed to."""
    entry = FACTS.as_metadata()[METADATA_KEY]
    del entry["host_capacity_tokens"]
    assert ReplicaFacts.from_metadata({METADATA_KEY: entry}) == ReplicaFacts(1, 32, 640)
