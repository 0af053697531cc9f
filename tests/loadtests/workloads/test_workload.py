"""Sessions: seeded, of several processes if need be, and made as users of their kind make them."""

import json
import statistics
from collections import Counter
from itertools import islice, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.workloads import (
    Session,
    Texts,
    Workload,
    default_texts,
    session_at,
    sessions,
    with_long_answers_scaled,
)
from loadtests.workloads.documents import NUM_DOCUMENTS
from loadtests.workloads.session import SessionKind
from loadtests.workloads.workload import MIX

SEEDS = st.integers(0, 10**6)
NUMBERS = st.integers(0, 10**6)
WORKLOADS = st.sampled_from(Workload)


@pytest.fixture(scope="module")
def texts() -> Texts:
    """The project's own."""
    return default_texts()


def first(num: int, workload: Workload, texts: Texts, *, seed: int = 1) -> list[Session]:
    """So many sessions."""
    return list(islice(sessions(workload, texts, seed=seed), num))


def prompt(session: Session, turn: int = 0) -> str:
    """What a template would see, in its order: system prompt, tools, the rest."""
    body = session.turns[turn].body
    system, *rest = body["messages"] if body["messages"][0]["role"] == "system" else ["", *body["messages"]]
    return json.dumps([system, body.get("tools"), rest])


@settings(max_examples=30)
@given(workload=WORKLOADS, seed=SEEDS, number=st.integers(0, 20))
def test_the_same_seed_gives_the_same_sessions(texts: Texts, workload: Workload, seed: int, number: int) -> None:
    """One after the other, or one alone."""
    session = session_at(number, workload, texts, seed=seed)
    assert next(islice(sessions(workload, texts, seed=seed), number, None)) == session
    assert session_at(number, workload, texts, seed=seed + 1) != session


@settings(max_examples=50)
@given(workload=WORKLOADS, seed=SEEDS, number=NUMBERS)
def test_a_turn_goes_on_from_the_one_before(texts: Texts, workload: Workload, seed: int, number: int) -> None:
    """Its messages begin with the former ones and the recorded answer, its tools are the same, and it comes later."""
    turns = session_at(number, workload, texts, seed=seed).turns
    assert turns[0].think_s == 0
    for before, after in pairwise(turns):
        old, new = before.body["messages"], after.body["messages"]
        assert new[: len(old)] == old
        assert new[len(old)]["role"] == "assistant"
        assert before.body.get("tools") == after.body.get("tools")
        assert after.think_s > 0


@settings(max_examples=50)
@given(workload=WORKLOADS, seed=SEEDS, number=NUMBERS)
def test_requests_stream_and_have_answers_of_given_length(
    texts: Texts, workload: Workload, seed: int, number: int
) -> None:
    """Whatever the model would rather say, and with its usage at the end."""
    for turn in session_at(number, workload, texts, seed=seed).turns:
        assert turn.body["stream"]
        assert turn.body["stream_options"] == {"include_usage": True}
        assert turn.body["ignore_eos"]
        assert turn.body["temperature"] == 0
        most_tokens = 12_000 if workload in {Workload.REASONING, Workload.MIXED} else 256
        assert 8 <= turn.body["min_tokens"] == turn.body["max_tokens"] <= most_tokens
        assert "model" not in turn.body
        assert turn.body["messages"][-1]["role"] in {"user", "tool"}


@settings(max_examples=30)
@given(seed=SEEDS)
def test_one_shot_prompts_begin_differently(texts: Texts, seed: int) -> None:
    """Within the first characters, so no two share a block."""
    beginnings = [each.turns[0].body["messages"][0]["content"][:6] for each in first(50, Workload.ONE_SHOT, texts)]
    assert len(set(beginnings)) == 50
    other = session_at(0, Workload.ONE_SHOT, texts, seed=seed).turns[0].body["messages"][0]["content"]
    assert other.startswith(f"000000-{seed}-one_shot: ")


def test_one_shot_prompts_are_as_long_as_recorded_ones(texts: Texts) -> None:
    """Half of them have a thousand tokens or more, as in Azure's trace."""
    lengths = [len(each.turns[0].body["messages"][0]["content"]) for each in first(400, Workload.ONE_SHOT, texts)]
    assert 3_400 < statistics.median(lengths) < 4_800
    assert max(lengths) < 17_000


def test_documents_come_before_the_question(texts: Texts) -> None:
    """So that questions on the same documents share them, and the reference of the session does not part them."""
    for session in first(20, Workload.RAG, texts):
        content = session.turns[0].body["messages"][1]["content"]
        assert content.startswith("Document 1:\n")
        assert content.rindex("Document 3:\n") < content.index(f"Question {session.session_id}: ")


def test_documents_repeat_with_a_skew(texts: Texts) -> None:
    """By Zipf's law over 21: the first is the best match of 27 sessions in 100, and one document has one place only."""
    found = [
        session.turns[0].body["messages"][1]["content"].split("\n\nQuestion ")[0].split("Document 2:")[0]
        for session in first(1000, Workload.RAG, texts)
    ]
    counts = Counter(found)
    assert len(counts) == len(texts.documents)
    assert 230 < counts.most_common(1)[0][1] < 320
    assert NUM_DOCUMENTS == 3


def test_agents_list_many_tools_and_read_results(texts: Texts) -> None:
    """24 tools, in every request; some requests follow a tool's result, after seconds and not after minutes."""
    turns = [turn for session in first(50, Workload.AGENTS, texts) for turn in session.turns]
    assert {len(turn.body["tools"]) for turn in turns} == {24}
    after_tools = [turn.think_s for turn in turns if turn.body["messages"][-1]["role"] == "tool"]
    after_users = [turn.think_s for turn in turns if turn.think_s and turn.body["messages"][-1]["role"] == "user"]
    assert 0.9 < statistics.median(after_tools) < 1.3
    assert 90 < statistics.median(after_users) < 160


def test_agents_of_one_application_share_their_tools_and_no_others(texts: Texts) -> None:
    """The beginning up to the end of the tools is one of twelve; what comes then is a session's own."""
    all_sessions = first(300, Workload.AGENTS, texts)
    beginnings = Counter(prompt(session).split('"role": "user"')[0] for session in all_sessions)
    assert len(beginnings) == 12
    assert 70 < beginnings.most_common(1)[0][1] < 125
    assert len({prompt(session) for session in all_sessions}) == 300


def test_chats_have_no_tools(texts: Texts) -> None:
    """What was said, in words."""
    for session in first(20, Workload.CHAT, texts):
        for turn in session.turns:
            assert "tools" not in turn.body
            assert {message["role"] for message in turn.body["messages"]} <= {"system", "user", "assistant"}
            assert all(message["content"] for message in turn.body["messages"])


def test_a_mix_has_every_kind_in_its_share(texts: Texts) -> None:
    """Within chance."""
    counts = Counter(session.kind for session in first(1000, Workload.MIX, texts))
    assert counts.keys() == MIX.keys()
    for kind, share in MIX.items():
        assert abs(counts[kind] - 10 * share) < 60


def system_prompt(session: Session) -> str:
    """Of its only request."""
    (turn,) = session.turns
    return str(turn.body["messages"][0]["content"])


def answer_tokens(session: Session) -> int:
    """Of its only request."""
    return int(session.turns[0].body["max_tokens"])


def test_reasoning_is_answered_at_length_behind_one_system_prompt(texts: Texts) -> None:
    """1,536 tokens for all, whatever the seed, some 300 of one's own, and 3,000 of an answer in the median.

    A standard deviation of 0.7 in the logarithm: 84 % of the answers are below twice the median.
    """
    some = first(400, Workload.REASONING, texts)
    (system,) = {system_prompt(each) for each in (*some, *first(3, Workload.REASONING, texts, seed=2))}
    assert len(system) == 4 * 1_536
    questions = [each.turns[0].body["messages"][1]["content"] for each in some]
    assert all(each.startswith(f"{session.session_id}: ") for each, session in zip(questions, some, strict=True))
    assert all(800 <= len(each) <= 1_640 for each in questions)
    answers = [answer_tokens(each) for each in some]
    assert 2_700 < statistics.median(answers) < 3_300
    assert 0.79 < sum(each < 6_000 for each in answers) / 400 < 0.89


def test_mixed_traffic_is_two_thirds_cold_and_long_and_one_third_answered_at_length(texts: Texts) -> None:
    """Cold prompts of about 6,000 tokens with short answers; answers of 4,000 behind a system prompt of 3,072."""
    some = first(600, Workload.MIXED, texts)
    cold = [each for each in some if each.kind is SessionKind.COLD]
    long = [each for each in some if each.kind is SessionKind.LONG_ANSWER]
    assert len(cold) + len(long) == 600
    assert 360 < len(cold) < 440
    assert len({system_prompt(each)[:6] for each in cold}) == len(cold)
    assert 5_800 < statistics.mean(len(system_prompt(each)) for each in cold) / 4 < 6_200
    assert 40 < statistics.median(answer_tokens(each) for each in cold) < 60
    assert {len(system_prompt(each)) for each in long} == {4 * 3_072}
    assert len({system_prompt(each) for each in long}) == 1
    assert 3_400 < statistics.median(answer_tokens(each) for each in long) < 4_600


@pytest.mark.parametrize(("scale", "expected"), [(1, 3_000), (0.1, 300), (0.00001, 1)])
def test_answers_can_be_scaled_for_slow_engines(texts: Texts, scale: float, expected: int) -> None:
    """A token is left at least, and prompts stay as they are."""
    session = session_at(0, Workload.REASONING, texts, seed=1)
    body = session.turns[0].body | {"max_tokens": 3_000, "min_tokens": 3_000}
    given = Session(session.session_id, session.kind, (type(session.turns[0])(body, 0.0),))
    (turn,) = with_long_answers_scaled(given, scale).turns
    assert turn.body == body | {"max_tokens": expected, "min_tokens": expected}
    assert given.turns[0].body["max_tokens"] == 3_000


@pytest.mark.parametrize("workload", [Workload.CHAT, Workload.RAG, Workload.AGENTS, Workload.ONE_SHOT])
def test_other_answers_are_not_scaled(texts: Texts, workload: Workload) -> None:
    """They are short."""
    session = session_at(0, workload, texts, seed=1)
    assert with_long_answers_scaled(session, 0.1) is session


def test_session_ids_are_unique(texts: Texts) -> None:
    """In a mix, too."""
    assert len({session.session_id for session in first(500, Workload.MIX, texts)}) == 500
