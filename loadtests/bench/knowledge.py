"""A check, before anything is measured, that a routing that should know the replicas' caches does know them.

Such a router works without its KV events too, only worse, and no one would notice: Dynamo's own guide once compared
its approximate mode by mistake (ai-dynamo/dynamo#11473).
"""

import time
from random import Random

import httpx

from loadtests.client.exchange import CHAT

NUM_REPEATS = 6
"""A router that knows nothing would send all of them to the replica that has the prompt by chance alone."""
NUM_TRIES = 5
NUM_WORDS = 300
PAUSE_S = 0.5
"""Seconds for events to arrive, and for the request before to be over for all routers."""


def finds_what_it_sent(client: httpx.Client, url: str, *, model: str, pause_s: float = PAUSE_S) -> bool:
    """Whether a prompt that was sent once is found cached whenever it comes again, other replicas being as idle.

    Args:
        client: of the application's HTTP API.
        url: the routing's.
        model: its name for clients.
        pause_s: between two requests.

    """
    return any(_finds(client, url, model=model, number=number, pause_s=pause_s) for number in range(NUM_TRIES))


def _finds(client: httpx.Client, url: str, *, model: str, number: int, pause_s: float) -> bool:
    rng = Random(f"probe {number}")
    words = " ".join(f"{rng.getrandbits(16):04x}" for _ in range(NUM_WORDS))
    body = {"model": model, "messages": [{"role": "user", "content": words}], "max_tokens": 1}
    client.post(f"{url}{CHAT}", json=body)
    for _ in range(NUM_REPEATS):
        time.sleep(pause_s)
        if not _cached_tokens(client.post(f"{url}{CHAT}", json=body)):
            return False
    return True


def _cached_tokens(response: httpx.Response) -> int:
    if not response.is_success:
        return 0
    details = response.json()["usage"].get("prompt_tokens_details") or {}
    return int(details.get("cached_tokens") or 0)
