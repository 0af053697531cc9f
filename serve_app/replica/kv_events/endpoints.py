"""The sockets on which vLLM publishes a replica's KV events."""

import tempfile
from typing import Any

from serve_app.replica.kv_events.subscription import KvSubscription
from serve_app.replica.kv_events.wire import TOPIC


class KvEndpoints:
    """Sockets in a folder of this process, in which no one else may read prompts."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="warmroute-kv-")
        self._events = f"ipc://{self._folder.name}/events"
        self._replay = f"ipc://{self._folder.name}/replay"

    def as_vllm_config(self) -> dict[str, Any]:
        """vLLM's engine argument `kv_events_config`."""
        return {
            "enable_kv_cache_events": True,
            "publisher": "zmq",
            "endpoint": self._events,
            "replay_endpoint": self._replay,
            "topic": TOPIC,
        }

    def subscribe(self) -> KvSubscription:
        """A subscription to all events since the engine's start."""
        return KvSubscription(self._events, self._replay)
