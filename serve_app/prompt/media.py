"""Images in prompts: which of them a router reads, and how they get into a key.

A router never opens a URL or a file for a client: it would be made to ask hosts that only it can reach, and would wait
for them. An image that comes with the request is read as the engine reads it. Sounds and films, which come with it as
well, take too long to be read for every decision.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import xxhash


class Placeholder(NamedTuple):
    """Tokens of a prompt that stand for an image."""

    content_hash: str
    """Hash by which vLLM tells images apart."""
    offset: int
    length: int


def with_contents(token_ids: Sequence[int], placeholders: Iterable[Placeholder]) -> list[int]:
    """The ids, with each placeholder's replaced by its content's hash: equal from the start only where images are, too.

    vLLM hashes the content along with each block that a placeholder reaches into. These are 32 bits of it in the first
    token, and all 64 from the second on.
    """
    ids = list(token_ids)
    for content_hash, offset, length in placeholders:
        digest = xxhash.xxh3_64_intdigest(content_hash.encode())
        halves = (digest & 0xFFFF_FFFF, digest >> 32)
        ids[offset : offset + length] = [halves[place % 2] for place in range(length)]
    return ids


def has_unread_media(fields: Mapping[str, Any]) -> bool:
    """Whether a request has content other than text and images sent along, or wants images processed in its own way.

    What that way would cost, in time and memory, is up to the client.
    """
    if any(fields.get(name) for name in _OWN_WAYS):
        return True
    return _is_unread(fields.get("messages")) or _is_unread(fields.get("input"))


def _is_unread(content: object) -> bool:
    if isinstance(content, list):
        return any(_is_unread(part) for part in content)
    if not isinstance(content, dict):
        return False
    if content.get("type") in _UNREAD or not _UNREAD.isdisjoint(content):
        return True
    if "image_url" in content and not _is_sent_along(content["image_url"]):
        return True
    source = content.get("source")  # of an image as Anthropic writes it
    if isinstance(source, dict) and source.get("type") != "base64":
        return True
    return any(_is_unread(content.get(field)) for field in ("content", "output"))


def _is_sent_along(image_url: object) -> bool:
    url = image_url.get("url") if isinstance(image_url, dict) else image_url
    return isinstance(url, str) and url[:5].lower() == "data:"


_OWN_WAYS = ("media_io_kwargs", "mm_processor_kwargs")
_UNREAD = frozenset(
    {
        "audio_embeds",
        "audio_url",
        "image_embeds",
        "input_audio",
        "input_file",
        "prompt_embeds",
        "video_embeds",
        "video_url",
    }
)
"""Types of content, and fields that contain it where no type is given."""
