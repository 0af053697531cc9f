"""Which paths of vLLM's API are for clients. Everything else of it answers 404 at the edge.

Not for clients are scaling, profiling, sleeping, weights, adapters, cache resets, metrics, load and documentation; vLLM
serves some of them without any key. Replicas' own ports, where operators reach them, have all.
"""

import re
from collections.abc import Iterable

CLIENT_PATHS = (
    "/v1/chat/completions",
    "/v1/chat/completions/batch",
    "/v1/chat/completions/render",
    "/v1/chat/completions/derender",
    "/v1/completions",
    "/v1/completions/render",
    "/v1/completions/derender",
    "/v1/responses",
    "/v1/responses/*",
    "/v1/responses/*/cancel",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/messages/render",
    "/v1/models",
    "/v1/embeddings",
    "/v2/embed",
    "/pooling",
    "/classify",
    "/score",
    "/v1/score",
    "/rerank",
    "/v1/rerank",
    "/v2/rerank",
    "/generative_scoring",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/realtime",
    "/cohere/v2/chat",
    "/cohere/v2/chat/render",
    "/tokenize",
    "/detokenize",
    "/invocations",
    "/ping",
    "/health",
    "/version",
)
"""Of vLLM 0.29; `*` stands for one part of a path, such as a response's id."""
ANY_PART = r"[A-Za-z0-9_.-]+"


def path_pattern(prefix: str, paths: Iterable[str]) -> str:
    """A regular expression, of PCRE and of Python, that a whole path below an application's prefix must match."""
    alternatives = "|".join(re.escape(path).replace(r"\*", ANY_PART) for path in paths)
    return f"^{re.escape(prefix.rstrip('/'))}({alternatives})$"
