"""Conversations: whether what was said before is sent again as it was, with something added, or rewritten."""

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import orjson
import xxhash

from serve_app.audit.common_prefix import common_prefix
from serve_app.audit.layout import SYSTEM_ROLES, message_list
from serve_app.audit.logged_request import LoggedRequest

MAX_CONVERSATIONS = 100_000
"""Whose messages are remembered by hash."""
MAX_TALKS = 4_000
"""... and as they were."""
MAX_ALIKE = 8
"""Conversations that said the same last, that are told apart."""
MIN_TAIL_BYTES = 64
"""In the last messages of a request: with less, such as `yes` and `thanks`, they may be another conversation's."""

Message = dict[str, Any]


class Rewriting(NamedTuple):
    """A request goes on with a conversation whose earlier messages it has changed."""

    first_changed: int
    """Place in its list of messages from which on they are others than in the request before."""
    append_only: Sequence[Message]
    """Its messages after the system's, if everything that was said before had been sent again; empty where it is
    not remembered."""


class _Told(NamedTuple):
    hashes: Sequence[int]
    """Hashes of the messages that were sent."""
    talk: Sequence[Message]
    """Messages that should have been sent."""
    is_rewritten: bool


class Histories:
    """Finds for each request the one that it continues, by the last messages of that: it has them too.

    Several conversations may have said the same last. Who just goes on with one of them has rewritten nothing.

    Args:
        is_remembering: what was said, not only its hashes; of the last conversations.

    """

    def __init__(self, *, is_remembering: bool) -> None:
        self._tail_to_told: OrderedDict[int, deque[_Told]] = OrderedDict()
        self._max_told = MAX_TALKS if is_remembering else MAX_CONVERSATIONS
        self._is_remembering = is_remembering

    def see(self, request: LoggedRequest) -> Rewriting | None:
        """The next request of a log; how it has rewritten a conversation, or None."""
        _, messages = message_list(request.body)
        start = num_leading_system(messages)
        talk = messages[start:]
        hashes = [xxhash.xxh3_64_intdigest(orjson.dumps(without_breakpoints(each))) for each in talk]
        rewriting = self._find(request.session_id, talk, hashes, start)
        kept = (rewriting.append_only or talk if rewriting is not None else talk) if self._is_remembering else ()
        for key in _tail_keys(request.session_id, talk, hashes):
            self._tail_to_told.setdefault(key, deque(maxlen=MAX_ALIKE)).append(
                _Told(hashes, kept, rewriting is not None)
            )
            self._tail_to_told.move_to_end(key)
            if len(self._tail_to_told) > self._max_told:
                self._tail_to_told.popitem(last=False)
        return rewriting

    def _find(self, session_id: str, talk: Sequence[Message], hashes: Sequence[int], start: int) -> Rewriting | None:
        for end in range(len(talk) - 1, 0, -1):
            for key in _tail_keys(session_id, talk[:end], hashes[:end]):
                told = self._tail_to_told.get(key, ())
                same = next((each for each in told if each.hashes == hashes[:end]), None)
                if same is not None:
                    # The one before may have been rewritten itself.
                    return Rewriting(start, _appended(same, talk[end:])) if same.is_rewritten and same.talk else None
                for each in reversed(told):
                    if 2 * len(set(each.hashes) & set(hashes[:end])) >= min(len(each.hashes), end):
                        return Rewriting(start + common_prefix(each.hashes, hashes), _appended(each, talk[end:]))
        return None


def _appended(told: _Told, new: Sequence[Message]) -> Sequence[Message]:
    return [*told.talk, *new] if told.talk else ()


def num_leading_system(messages: Sequence[Message]) -> int:
    """Messages before the conversation."""
    return next((place for place, each in enumerate(messages) if each.get("role") not in SYSTEM_ROLES), len(messages))


def without_breakpoints(value: Any) -> Any:  # noqa: ANN401  any JSON
    """The same without `cache_control`, which changes no prompt."""
    if isinstance(value, dict):
        return {key: without_breakpoints(inner) for key, inner in value.items() if key != "cache_control"}
    return list(map(without_breakpoints, value)) if isinstance(value, list) else value


def _tail_keys(session_id: str, talk: Sequence[Message], hashes: Sequence[int]) -> Iterator[int]:
    """Keys of the last two messages, and of the last one."""
    for length in (2, 1):
        tail = talk[-length:]
        if tail and sum(len(orjson.dumps(each.get("content"))) for each in tail) >= MIN_TAIL_BYTES:
            yield xxhash.xxh3_64_intdigest(orjson.dumps([session_id, hashes[-length:]]))
