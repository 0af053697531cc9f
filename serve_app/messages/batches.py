"""How routers and replicas write to each other: msgpack batches, numbered by their sender.

During an upgrade both versions run side by side for minutes. A field with a default may be added at any time; both
sides read what they know. Any other change raises `PROTOCOL`, and a batch of another protocol is refused in words.
"""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec

from serve_app.messages.kv_updates import KvUpdate

PROTOCOL = 1
"""The protocol's number, to be raised when the other version would misunderstand."""

Item = TypeVar("Item")


class RefusedError(Exception):
    """A batch cannot be read; the message says why and what to do."""


class Batch(msgspec.Struct, Generic[Item], frozen=True):
    """Items that one sender sends together."""

    sender: str
    """The replica's or router's id."""
    number: int
    """Counts the sender's batches, so that one that was overtaken is recognised."""
    items: Sequence[Item]
    protocol: int = PROTOCOL
    kv_updates: Sequence[KvUpdate] = ()
    """Changes in a replica's KV cache since its last batch."""


class _Header(msgspec.Struct, frozen=True):
    sender: str = "?"
    protocol: int = 0


def encode(sender: str, number: int, items: Sequence[Any], kv_updates: Sequence[KvUpdate] = ()) -> bytes:
    """A batch as msgpack. Items may be structs, dataclasses and plain values."""
    return msgspec.msgpack.encode(Batch(sender, number, items, kv_updates=kv_updates))


UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""msgspec's errors; for a text that is not UTF-8, and for endlessly nested lists, it raises Python's own."""
MAX_FAULT_CHARS = 200
"""Length to which a fault is cut, as it may quote what the sender wrote, of any length."""


class Reader(Generic[Item]):
    """Decodes batches of one kind of item, given as a type or a tagged union."""

    def __init__(self, item: Any) -> None:  # noqa: ANN401  a union is not a type
        self._decoder: msgspec.msgpack.Decoder[Batch[Item]] = msgspec.msgpack.Decoder(Batch[item])

    def read(self, payload: bytes) -> Batch[Item]:
        """The batch.

        Raises:
            RefusedError: another protocol, or not a batch of this kind.

        """
        try:
            header = msgspec.msgpack.decode(payload, type=_Header)
        except UNREADABLE as error:
            raise RefusedError("not a batch of messages") from error
        if header.protocol != PROTOCOL:
            raise RefusedError(
                f"protocol {header.protocol}, this process speaks {PROTOCOL}: routers and replicas run different "
                "versions; finish the upgrade"
            )
        try:
            return self._decoder.decode(payload)
        except UNREADABLE as error:
            raise RefusedError(f"does not fit protocol {PROTOCOL} ({str(error)[:MAX_FAULT_CHARS]})") from error
