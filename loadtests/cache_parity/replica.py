"""One vLLM engine, asked at its replica's own port."""

from dataclasses import dataclass

import httpx

from loadtests.cache_parity.questions import Question, Served
from loadtests.exchange import TIMEOUT_S
from loadtests.live import LiveError, Server
from loadtests.snapshots import short
from serve_app.replica_urls import haproxy_addresses, replica_urls


@dataclass(frozen=True, slots=True)
class Place:
    """A replica and its cache."""

    replica_id: str
    url: str
    block_size: int
    kv_capacity_tokens: int


def find_place(server: Server) -> Place:
    """The first replica that both HAProxy and the routers know.

    Raises:
        LiveError: there is none.

    """
    snapshot = server.application.routers()[0]
    for replica_id, url in replica_urls(haproxy_addresses(server.run.run_dir)).items():
        if replica_id in snapshot["replicas"]:
            kv_capacity_tokens = snapshot["replicas"][replica_id]["kv_capacity_tokens"]
            return Place(short(replica_id), url, snapshot["block_size"], kv_capacity_tokens)
    raise LiveError("no replica of this application answers at its own port: is the server ready?")


class Replica:
    """Answers questions, one at a time.

    Args:
        client: connected to the replica's own port.
        model: its name for clients.

    """

    def __init__(self, client: httpx.Client, model: str) -> None:
        self._client = client
        self._model = model

    def ask(self, question: Question) -> Served:
        """Ask, and wait for the whole answer.

        Raises:
            LiveError: the engine refused, or does not say what it reused.

        """
        try:
            response = self._client.post("/v1/completions", json=self._body(question), timeout=TIMEOUT_S)
        except httpx.TransportError as error:
            raise LiveError(f"the replica does not answer any more: {type(error).__name__}") from error
        if response.is_error:
            raise LiveError(f"the engine answered {response.status_code}: {response.text[:500]}")
        answer = response.json()
        details = answer["usage"]["prompt_tokens_details"]
        if details is None:
            raise LiveError(
                "the engine does not say what it reused: set llm.engine_kwargs.enable_prompt_tokens_details: true"
            )
        return Served(question, tuple(answer["choices"][0]["token_ids"]), details["cached_tokens"])

    def _body(self, question: Question) -> dict[str, object]:
        return {
            "model": self._model,
            "prompt": question.prompt,
            "max_tokens": question.answer_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "return_token_ids": True,
        }
