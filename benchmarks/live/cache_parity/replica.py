"""One vLLM engine, asked at its replica's own port."""

from dataclasses import dataclass

import httpx

from benchmarks.harness.errors import MeasurementError
from benchmarks.harness.running_server import Server
from benchmarks.live.cache_parity.questions import Answered, PromptQuestion
from loadtests.client.exchange import TIMEOUT_S
from serve_app.local.haproxy import replica_urls
from serve_app.messages.response_headers import REPLICA_HEADER
from serve_app.messages.snapshot import short_id


@dataclass(frozen=True, slots=True)
class ReplicaCache:
    """A replica and its cache."""

    replica_id: str
    url: str
    block_size: int
    kv_capacity_tokens: int


def find_replica_cache(server: Server) -> ReplicaCache:
    """The first replica that both HAProxy and the routers know.

    Raises:
        MeasurementError: there is none.

    """
    snapshot, urls = server.application.routers()[0], replica_urls(server.run.run_dir)
    for replica_id, replica in snapshot.replicas.items():
        if short_id(replica_id) in urls:
            url = urls[short_id(replica_id)]
            assert snapshot.block_size is not None
            return ReplicaCache(short_id(replica_id), url, snapshot.block_size, replica.kv_capacity_tokens)
    raise MeasurementError("HAProxy's configuration names no replica that the routers know: is the server ready?")


class AskedReplica:
    """Answers questions, one at a time.

    Args:
        client: connected to its own port.
        model: its name for clients.
        replica_id: the short one.

    """

    def __init__(self, client: httpx.Client, *, model: str, replica_id: str) -> None:
        self._client = client
        self._model = model
        self._replica_id = replica_id

    def ask(self, question: PromptQuestion) -> Answered:
        """Ask, and wait for the whole answer.

        Raises:
            MeasurementError: the engine refused, does not say what it reused, or is another replica's.

        """
        try:
            response = self._client.post("/v1/completions", json=self._body(question), timeout=TIMEOUT_S)
        except httpx.TransportError as error:
            raise MeasurementError(f"the replica does not answer any more: {type(error).__name__}") from error
        if response.is_error:
            raise MeasurementError(f"the engine answered {response.status_code}: {response.text[:500]}")
        answered_by = short_id(response.headers.get(REPLICA_HEADER, ""))
        if answered_by != self._replica_id:
            raise MeasurementError(f"replica {answered_by} answered, not {self._replica_id}: start again")
        answer = response.json()
        details = answer["usage"]["prompt_tokens_details"]
        if details is None:
            raise MeasurementError(
                "the engine does not say what it reused: set llm.engine_kwargs.enable_prompt_tokens_details: true"
            )
        return Answered(question, tuple(answer["choices"][0]["token_ids"]), details["cached_tokens"])

    def _body(self, question: PromptQuestion) -> dict[str, object]:
        return {
            "model": self._model,
            "prompt": question.prompt,
            "max_tokens": question.answer_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "return_token_ids": True,
        }
