"""The note from router to replica."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import Reason, ReplicaId, RequestId
from router.policies import POLICY_NAMES
from serve_app.messages.routing_note import NOTE_HEADER, RoutingNote, signed
from serve_app.prompt.body import Unreadable

KEY = b"the cluster's"
counts = st.none() | st.integers(0, 10**9)
notes = st.builds(
    RoutingNote,
    request_id=st.uuids().map(lambda value: RequestId(value.hex)),
    replica_id=st.just(ReplicaId("SERVE_REPLICA::warmroute#LLMReplica:org--model_1#abc")),
    policy=st.sampled_from(POLICY_NAMES),
    reason=st.sampled_from([*Reason, *Unreadable]).map(str),
    prompt_tokens=counts,
    believed_cached_tokens=counts,
    num_sequences=st.integers(1, 10**9),
)


@given(notes)
def test_a_note_survives_its_header(note: RoutingNote) -> None:
    """Zero and unknown stay apart."""
    assert RoutingNote.decode(note.encode(KEY), KEY) == note


@given(notes)
def test_haproxys_pattern_reads_what_we_answer(note: RoutingNote) -> None:
    """The Lua patterns, as regular expressions, on the router's whole answer."""
    answer = json.dumps({"replica_id": note.replica_id, "request_headers": {NOTE_HEADER: note.encode(KEY)}})
    replica_id = re.search(r'"replica_id"\s*:\s*"([^"]+)"', answer)
    headers = re.search(r'"request_headers"\s*:\s*{(.*?)}', answer)
    assert replica_id is not None
    assert headers is not None
    assert replica_id[1] == note.replica_id
    assert re.findall(r'"\s*([^"]*?)\s*"\s*:\s*"([^"]*)"', headers[1]) == [(NOTE_HEADER, note.encode(KEY))]


def test_the_header_cannot_come_from_a_client() -> None:
    """HAProxy strips names with this prefix from every client request."""
    assert NOTE_HEADER.startswith("x-serve-router-")


def test_another_versions_note_is_refused() -> None:
    """In words the caller can handle."""
    with pytest.raises(ValueError, match="values to unpack"):
        RoutingNote.decode(signed("a;b;c", KEY), KEY)


@given(notes)
def test_fields_that_a_later_version_appended_are_passed_over(note: RoutingNote) -> None:
    """During an upgrade, a new router's notes reach old replicas."""
    fields, _, _ = note.encode(KEY).rpartition(";")
    assert RoutingNote.decode(signed(f"{fields};later", KEY), KEY) == note


@given(notes, st.data())
def test_only_who_has_the_key_can_write_a_note(note: RoutingNote, data: st.DataObject) -> None:
    """Neither one with another key, nor one in which a character was changed, nor one without a signature."""
    right = note.encode(KEY)
    place = data.draw(st.integers(0, len(right) - 1))
    changed = data.draw(st.characters(codec="ascii").filter(lambda character: character != right[place]))
    unsigned, _, _ = right.rpartition(";")
    for wrong in (note.encode(b"a guess"), right[:place] + changed + right[place + 1 :], unsigned, ""):
        with pytest.raises(ValueError, match="signature is wrong"):
            RoutingNote.decode(wrong, KEY)
