"""How long answers become."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.load.answers import FIRST_GUESS_TOKENS, FORGET, MAX_CLASSES, Answers
from router.state import AnswerClass, AnswerMean
from tests.builders import make_request


def test_before_any_answer_the_limit_is_expected() -> None:
    """Or, without one, a first guess."""
    answers = Answers()
    assert answers.expected_tokens(make_request("a", 1)) == FIRST_GUESS_TOKENS
    assert answers.expected_tokens(make_request("a", 1, max_answer_tokens=5000)) == 5000
    assert answers.expected_tokens(make_request("a", 1, max_answer_tokens=7)) == 7


@pytest.mark.parametrize(
    ("blocks", "session_id", "max_answer_tokens", "expected_tokens"),
    [
        ((9,), "", None, (0.9 * 100 + 400) / 1.9),  # a stranger: the mean of all, where the earlier one counts less
        ((9,), "", 50, 50),  # never more than the client allows
        ((9,), "", 5000, (0.9 * 100 + 400) / 1.9),
        ((2,), "", None, (400 + (0.9 * 100 + 400) / 1.9) / 2),  # its block's one answer, and all as one more
        ((2, 7), "", None, (400 + (0.9 * 100 + 400) / 1.9) / 2),  # however it goes on
        ((), "bob", None, (400 + (0.9 * 100 + 400) / 1.9) / 2),  # no block, but a session
        ((2,), "bob", None, (400 + (400 + (0.9 * 100 + 400) / 1.9) / 2) / 2),  # a session counts more than a block
    ],
)
def test_a_class_is_expected_to_answer_as_it_did(
    blocks: tuple[int, ...], session_id: str, max_answer_tokens: int | None, expected_tokens: float
) -> None:
    """One answer of 100 tokens to a prompt with the block 1, and one of 400 to the block 2, in Bob's session."""
    answers = Answers()
    answers.learn(make_request("a", 1), 100)
    answers.learn(make_request("b", 2, session_id="bob"), 400)
    request = make_request("next", *blocks, session_id=session_id, max_answer_tokens=max_answer_tokens)
    assert answers.expected_tokens(request) == pytest.approx(expected_tokens)


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 5000)), max_size=40))
def test_it_equals_weighted_means(learned: list[tuple[int, int]]) -> None:
    """Each answer counts `FORGET` times as much with every later one of its class."""

    def weighted(lengths: list[int], wider_tokens: float, wider_count: float) -> float:
        weights = [FORGET**age for age in reversed(range(len(lengths)))]
        total = sum(weight * length for weight, length in zip(weights, lengths, strict=True))
        return (total + wider_count * wider_tokens) / (sum(weights) + wider_count)

    answers = Answers()
    for number, (block, tokens) in enumerate(learned):
        answers.learn(make_request(str(number), block), tokens)
    for block in (1, 2, 3):
        expected_tokens = FIRST_GUESS_TOKENS
        if learned:
            of_all = weighted([tokens for _, tokens in learned], 0, 0)
            expected_tokens = weighted([tokens for each, tokens in learned if each == block], of_all, 1)
        assert answers.expected_tokens(make_request("next", block)) == pytest.approx(expected_tokens)


def test_what_was_used_longest_ago_is_forgotten_first() -> None:
    """Memory is bounded, whoever sends whatever."""
    answers = Answers()
    for number in range(MAX_CLASSES):
        answers.learn(make_request(str(number), number), 10)
    answers.learn(make_request("again", 0), 5000)
    answers.learn(make_request("new", MAX_CLASSES), 10)
    assert sum(len(answers.export_classes(part, num_parts=3)) for part in range(3)) == MAX_CLASSES
    known = {each.key for each in answers.export_classes(0, num_parts=1)}
    assert make_request("", 0).block_hashes[0] in known
    assert make_request("", 1).block_hashes[0] not in known


def test_a_joining_router_expects_what_its_peer_does() -> None:
    """From the parts together; of what it has seen more of itself, it keeps its own."""
    peer, joining = Answers(), Answers()
    for number in range(20):
        peer.learn(make_request(str(number), number % 5), 100 * number)
    for _ in range(9):
        joining.learn(make_request("own", 0), 7)
    (own,) = joining.export_classes(0, num_parts=1)
    for part in range(4):
        joining.adopt(peer.of_all, peer.export_classes(part, num_parts=4))
    for block in (1, 2, 3, 4, 99):
        request = make_request("next", block)
        assert joining.expected_tokens(request) == peer.expected_tokens(request)
    assert own in joining.export_classes(0, num_parts=1)


def test_what_is_taken_over_is_bounded_too() -> None:
    """A peer that knows more classes than may be remembered."""
    answers = Answers()
    classes = [AnswerClass(key, AnswerMean(10, 1)) for key in range(MAX_CLASSES + 10)]
    answers.adopt(AnswerMean(10, 1), classes)
    assert answers.export_classes(0, num_parts=1) == tuple(classes[10:])
