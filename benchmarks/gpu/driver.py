"""One run: the production router chooses an engine for each prompt, and hears what became of it.

What it hears is what the engines' API tells: a first token at once, and how much of the prompt was cached only at the
answer's end. A replica under Ray Serve tells both at the first token (`serve_app.replica.vllm_outputs`), so there the
core also corrects its estimates by it.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Protocol

from benchmarks.gpu.engine import MODEL_NAME, EngineAnswer
from benchmarks.gpu.sessions import Session, Turn
from benchmarks.harness.errors import MeasurementError
from router import BlockHasher, ReplicaId, RequestId, Router, RouteRequest, root_hash

ROOT = root_hash(model=MODEL_NAME, adapter="", tenant="", cache_salt="")


class Asked(Protocol):
    """What is needed of an engine."""

    async def ask(
        self, token_ids: Sequence[int], *, answer_tokens: int, on_first_token: Callable[[], None]
    ) -> EngineAnswer:
        """Send a prompt, and follow its answer."""


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """What became of a request; times in seconds since the run's start."""

    replica_id: ReplicaId
    started_s: float
    """When it came to the router."""
    ended_s: float
    ttft_s: float | None
    """Seconds since it came, choosing included; None if it failed."""
    prompt_tokens: int
    cached_tokens: int
    believed_cached_tokens: int
    """Tokens that the router estimated to be cached when it chose."""
    fault: str | None = None


class TurnDriver:
    """Serves sessions through a router.

    Args:
        router: fresh, with the engines for its replicas.
        id_to_engine: the same engines.
        answer_tokens: of every answer.
        heartbeat_s: how often the router hears that an engine is there, and what it has.
        clock: seconds.

    """

    def __init__(
        self,
        router: Router,
        id_to_engine: Mapping[ReplicaId, Asked],
        *,
        answer_tokens: int,
        heartbeat_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._router = router
        self._id_to_engine = id_to_engine
        self._answer_tokens = answer_tokens
        self._heartbeat_s = heartbeat_s
        self._clock = clock
        self._hasher = BlockHasher(block_size=router.cluster.block_size)
        self._numbers = count()
        self._outstanding: dict[ReplicaId, dict[RequestId, int]] = {each: {} for each in id_to_engine}
        self._started_s = clock()
        self.records: list[TurnRecord] = []
        """Records of answered and failed requests, in order of their ends."""
        self.max_late_s = 0.0
        """How late a session began at worst: how well this process kept up."""

    async def run(self, sessions: Sequence[Session]) -> None:
        """Serve all sessions, until the last answer."""
        self._started_s = self._clock()
        async with asyncio.TaskGroup() as background:
            heartbeat = background.create_task(self._beat())
            async with asyncio.TaskGroup() as users:
                for session in sessions:
                    due_s = self._started_s + session.arrival_s
                    await asyncio.sleep(due_s - self._clock())
                    self.max_late_s = max(self.max_late_s, self._clock() - due_s)
                    users.create_task(self._converse(session))
            heartbeat.cancel()

    async def _beat(self) -> None:
        while True:
            for replica_id, outstanding in self._outstanding.items():
                self._router.on_heard(replica_id, is_serving=True, now=self._clock())
                self._router.on_outstanding(replica_id, outstanding, now=self._clock())
            await asyncio.sleep(self._heartbeat_s)

    async def _converse(self, session: Session) -> None:
        """A user whose request fails asks the next one all the same."""
        for turn in session.turns:
            await asyncio.sleep(turn.think_s)
            self.records.append(await self._serve(turn))

    async def _serve(self, turn: Turn) -> TurnRecord:
        started_s = self._clock()
        request_id = RequestId(f"request-{next(self._numbers)}")
        hashes = self._hasher.hash(turn.prompt, root=ROOT)
        request = RouteRequest(request_id, MODEL_NAME, "", len(turn.prompt), hashes)
        decision = self._router.choose(request, now=started_s).decision
        chosen_s = self._clock()
        fate = await self._send(turn, request_id, decision.replica_id)
        return TurnRecord(
            decision.replica_id,
            started_s - self._started_s,
            self._clock() - self._started_s,
            chosen_s - started_s + fate.first_token_s if isinstance(fate, EngineAnswer) else None,
            len(turn.prompt),
            fate.cached_tokens if isinstance(fate, EngineAnswer) else 0,
            decision.believed_cached_tokens,
            fault=None if isinstance(fate, EngineAnswer) else str(fate),
        )

    async def _send(self, turn: Turn, request_id: RequestId, replica_id: ReplicaId) -> EngineAnswer | MeasurementError:
        """Send it to the chosen engine; the router hears everything."""
        outstanding = self._outstanding[replica_id]
        outstanding[request_id] = 0
        self._router.on_arrived(request_id, replica_id, now=self._clock())
        try:
            answer = await self._id_to_engine[replica_id].ask(
                turn.prompt,
                answer_tokens=self._answer_tokens,
                on_first_token=partial(self._on_first_token, replica_id, request_id, len(turn.prompt)),
            )
        except MeasurementError as error:
            return error
        else:
            self._router.on_prefilled(
                request_id,
                prompt_tokens=answer.prompt_tokens,
                cached_tokens=answer.cached_tokens,
                now=self._clock(),
            )
            return answer
        finally:
            del outstanding[request_id]
            self._router.on_finished(request_id, now=self._clock())

    def _on_first_token(self, replica_id: ReplicaId, request_id: RequestId, prompt_tokens: int) -> None:
        """Told as a list of what the engine has, because how much was cached is not known yet."""
        self._outstanding[replica_id][request_id] = prompt_tokens
        self._router.on_outstanding(replica_id, self._outstanding[replica_id], now=self._clock())
