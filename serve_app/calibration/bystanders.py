"""Whether others use the replica while it is measured, by what the routers hear of its engine."""

import time
from collections.abc import Callable
from typing import NamedTuple

from serve_app.calibration.errors import CalibrationError
from serve_app.messages.snapshot import EngineSnapshot, RouterSnapshot

TIMEOUT_S = 10.0
POLL_S = 0.5


class _ReplicaUse(NamedTuple):
    num_requests: int
    """Waiting or running."""
    prompt_tokens: int
    """Number of tokens of all prompts since the engine's start, except those of the self-test."""


class Bystanders:
    """Everybody's requests but ours.

    Args:
        read: asks a router.
        replica_id: the full one.
        clock: seconds.
        sleep: waits so many.

    Raises:
        CalibrationError: somebody is there already.

    """

    def __init__(
        self,
        read: Callable[[], RouterSnapshot],
        replica_id: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._read = read
        self._replica_id = replica_id
        self._clock = clock
        self._sleep = sleep
        use = self._use()
        if use.num_requests:
            raise CalibrationError(
                f"{use.num_requests} requests of others are running at the replica: calibrate an idle one"
            )
        self._tokens_before = use.prompt_tokens

    def check(self, own_tokens: int) -> None:
        """Make sure that the engine got no prompts since but ours, of so many tokens together.

        Raises:
            CalibrationError: it did; or it still does not report ours.

        """
        deadline = self._clock() + TIMEOUT_S
        while (others := self._use().prompt_tokens - self._tokens_before - own_tokens) < 0:
            if self._clock() > deadline:
                raise CalibrationError(
                    f"the replica reports {-others} prompt tokens less than it got: set llm.log_engine_metrics: true"
                )
            self._sleep(POLL_S)
        if others:
            raise CalibrationError(
                f"others sent prompts of {others} tokens to the replica at the same time, so the times are worth "
                "nothing: calibrate an idle one"
            )

    def _use(self) -> _ReplicaUse:
        engine = self._read().replicas[self._replica_id].engine or EngineSnapshot()
        return _ReplicaUse((engine.waiting or 0) + (engine.running or 0), engine.prompt_tokens - engine.own_tokens)
