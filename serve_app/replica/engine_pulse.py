"""Whether the engine still goes round: between any two steps, its loop answers whoever asks it something.

That its process lives says little, as it may be stopped, or wait for its device for ever. Its steps say less than an
answer does: an idle engine makes none, nor does one that is paused, one of several engines may hang while the others
make theirs, and without vLLM's statistics the steps of a long prompt do not show.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

logger = logging.getLogger("ray.serve")


class EnginePulse:
    """Asks the engine again with each beat of the replica, once it has answered.

    Counts beats and not seconds: a replica that itself stood still, for want of a processor say, made none, and does
    not blame its engine for that.

    Args:
        ask: lets the engine's loop answer something. A failure is an answer as well, and is logged.
        max_missed: beats for which an engine may owe its answer before it counts as hanging.

    """

    def __init__(self, ask: Callable[[], Awaitable[object]], *, max_missed: int) -> None:
        self._ask = ask
        self._max_missed = max_missed
        self._question: asyncio.Task[None] | None = None
        self._num_missed = 0

    @property
    def is_lost(self) -> bool:
        """Whether the engine hangs."""
        return self._num_missed >= self._max_missed

    def beat(self) -> None:
        """Note whether the engine has answered; if so, ask again."""
        if self._question is not None and not self._question.done():
            self._num_missed += 1
            return
        self._num_missed = 0
        self._question = asyncio.create_task(self._put_question())

    async def _put_question(self) -> None:
        try:
            await self._ask()
        except Exception as error:  # noqa: BLE001  whatever it is, the loop has answered
            logger.warning("The engine failed to answer whether it goes round: %s", type(error).__name__)
