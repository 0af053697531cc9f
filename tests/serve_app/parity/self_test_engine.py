"""A small engine with a prefix cache that serves the self-test's probes, and can be made to deviate."""

from collections.abc import Sequence
from itertools import count
from typing import Any

import orjson
import xxhash

from router import BlockHasher, cacheable_tokens, hash_blocks, hash_tokens, root_hash
from serve_app.messages.receipts import ProbeResult, SelfTestReport
from serve_app.messages.snapshot import ReaderSnapshot
from serve_app.parity.self_test import Probe, run_self_test
from serve_app.prompt.body import Prompt, Unreadable, UnreadableError
from serve_app.prompt.incoming import RequestReader
from serve_app.prompt.served_model import ServedModel

MODEL, ADAPTER, BLOCK_SIZE = "m", "m-adapter", 16


def tokens_of(fields: dict[str, Any], template: str = "") -> Sequence[int]:
    """A word is a token; a chat is its messages and tools, after the template's own words."""
    if "prompt" in fields:
        text = fields["prompt"]
    else:
        text = f"{template} {orjson.dumps(fields['messages']).decode()} {orjson.dumps(fields.get('tools')).decode()}"
    return [xxhash.xxh32_intdigest(word.encode()) for word in text.split()]


class Prompts:
    """A prompt reader like the router's."""

    max_model_len = 100_000
    tokenizer = "fastokens"

    def snapshot(self) -> ReaderSnapshot:
        """As a router shows it."""
        return ReaderSnapshot(tokenizer=self.tokenizer)

    def __init__(self, *, has_chat: bool) -> None:
        self._has_chat = has_chat

    async def read(self, fields: dict[str, Any]) -> Prompt:
        """The prompt; there is none in a chat for a model without a chat template."""
        if "messages" in fields and not self._has_chat:
            raise UnreadableError(Unreadable.REJECTED)
        return Prompt(tokens_of(fields), cache_salt=fields.get("cache_salt", ""))


def _reader(*, has_chat: bool) -> RequestReader:
    reader = RequestReader(
        session_header="x-session-id", model=ServedModel(MODEL, loads_adapters=False), max_sequences=1
    )
    reader.prompts = Prompts(has_chat=has_chat)
    return reader


read = _reader(has_chat=True).read
read_without_chat = _reader(has_chat=False).read


def hasher() -> BlockHasher:
    """The router's."""
    return BlockHasher(block_size=BLOCK_SIZE)


class Engine:
    """Every deviation is a flag."""

    def __init__(self) -> None:
        self.template = ""
        self.block_size = BLOCK_SIZE
        self.is_caching = True
        self.has_salts = True
        self.salts_each_request = False
        self.has_adapters = True
        self.refuses_chat = False
        self.refuses_adapter = False
        self.leaves_out_last_block = False
        self.forgets_before: set[int] = set()
        """The numbers of probes before which everything was evicted."""
        self._held: set[int] = set()
        self._numbers = count()

    async def ask(self, probe: Probe) -> ProbeResult | None:
        """Serve one."""
        fields, number = probe.body, next(self._numbers)
        if (self.refuses_chat and "messages" in fields) or (self.refuses_adapter and fields["model"] == ADAPTER):
            return None
        if number in self.forgets_before:
            self._held.clear()
        token_ids = tokens_of(fields, self.template)
        hashes = hash_blocks(token_ids, block_size=self.block_size, root=self._root(fields, number))
        num_blocks = sum(each in self._held for each in hashes)
        if self.leaves_out_last_block:
            num_blocks = max(0, min(num_blocks, (len(token_ids) - 1) // self.block_size) - 1)
        if self.is_caching:
            self._held.update(hashes)
        cached = cacheable_tokens(len(token_ids), num_blocks=num_blocks, block_size=self.block_size)
        return ProbeResult(len(token_ids), hash_tokens(token_ids), cached)

    def _root(self, fields: dict[str, Any], number: int) -> Any:
        salt = fields.get("cache_salt", "")
        if salt and self.salts_each_request:
            salt = f"{salt} {number}"
        return root_hash(
            model=fields["model"] if self.has_adapters else MODEL,
            adapter="",
            tenant="",
            cache_salt=salt if self.has_salts else "",
        )

    async def report(self, *, adapter: str = ADAPTER, is_crowded: bool = False) -> SelfTestReport:
        """The report of one run."""
        return await run_self_test(
            self.ask,
            model=MODEL,
            adapter=adapter,
            block_size=BLOCK_SIZE,
            period_s=60,
            is_crowded=lambda: is_crowded,
        )
