"""Texts in which different tokenizers show their difference: what has broken one or another of them before."""

from collections.abc import Iterable, Iterator
from random import Random

FRAGMENTS = (
    "Hello, world!",
    "The quick brown fox jumps over 13 lazy dogs.",
    "I'm sure they'LL say WE'VE done what isn't theirs'",
    " ",
    "  two  ",
    " " * 63,
    "\t\t\tx",
    "\n",
    "\n\n\n",
    " \n \n",
    "\r\n",
    "\u00a0\u2003\u3000",
    "0",
    "12345678901234567890",
    "3.14159e-10, 1,000,000 and 0x7fff",
    "٣٤٥ ४५६",
    "?!...---___***",
    "def f(x):\n    return {'a': [1, 2.5], \"b\": f(x - 1)}\n",
    '{"name":"get_weather","arguments":{"city":"Zürich","days":3}}',
    "https://example.org/a?b=c&d=%20#e",
    "c29tZSBieXRlcyBpbiBiYXNlNjQ=",
    "camelCaseHTTPServer_snake_case",
    "naïve café Straße ŒUVRE",
    "cafe\u0301 A\u030a q\u0323\u0307 \u1e9b\u0323",
    "\ufb01\u2460\u00bd\uff21\u00b5",
    "İstanbul ıSPARTA ǅ",
    "Zażółć gęślą jaźń",
    "Привет, мир",
    "日本語と中文，한국어",
    "สวัสดีครับ नमस्ते",
    "שלום עולם مرحبا بالعالم",
    "\u202bmixed\u202c\u200f\u200e",
    "👋🏽👨\u200d👩\u200d👧\u200d👦🏳\ufe0f\u200d🌈🇨🇭",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𒀀",
    "\u200b\u200d\ufeff\u2060",
    "\ufffd\ufffe\ue000",
    "\x00\x01\x1b[0m\x7f\x85",
    "a\u0300\u0301\u0302\u0303\u0304",
    "zzzzzzzzzzzzzzzz",
    "<|im_start|",
    "< |im_end|>",
    "</s",
    "[INST]",
    "<unk>",
    "▁",
    "ĠĊ",
)
"""Each is tokenised by itself, and among others in a random order, for they meet at their edges as well."""
NUM_MIXTURES = 200
FRAGMENTS_PER_MIXTURE = 8
LONG_CHARS = 300_000
"""Long words and texts go ways of their own, in several threads or past caches whose lengths have 16 bits."""
MAX_SPECIAL_TOKENS = 64
"""Vocabularies reserve hundreds that are alike."""


def samples(special_tokens: Iterable[str]) -> Iterator[str]:
    """Texts for a tokenizer with these special tokens; the same each time."""
    rng = Random("tokenizer samples")  # noqa: S311  for variety, not secrecy
    special = sorted(special_tokens)[:MAX_SPECIAL_TOKENS]
    yield ""
    yield from FRAGMENTS
    for token in special:
        yield f"{token}word {token} {token}{token}\n{token.upper()}{token[:-1]} {token[1:]}"
    for _ in range(NUM_MIXTURES):
        yield "".join(rng.choices((*FRAGMENTS, *special), k=FRAGMENTS_PER_MIXTURE))
    yield "x" * LONG_CHARS
    yield "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=LONG_CHARS))
    prose = "".join(f"{fragment} " for fragment in rng.choices(FRAGMENTS, k=LONG_CHARS // 16))
    yield prose[:LONG_CHARS]
