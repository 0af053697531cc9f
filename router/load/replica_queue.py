"""One replica's outstanding requests, in the order in which they were sent."""

from dataclasses import dataclass, field

from router.load.outstanding import Outstanding
from router.load.progress import Progress
from router.load.table import ReplicaLoad
from router.load.waiting_work import WaitingWork
from router.types import RequestId


@dataclass(slots=True)
class ReplicaQueue:
    """The requests at one replica, its load and its progress."""

    load: ReplicaLoad
    requests: dict[RequestId, Outstanding] = field(default_factory=dict)
    waiting: dict[RequestId, Outstanding] = field(default_factory=dict)
    """Those of the requests whose prompts are not all computed. The first one is taken to be computed now."""
    waiting_work: WaitingWork = field(default_factory=WaitingWork)
    progress: Progress = field(default_factory=Progress)

    def add(self, outstanding: Outstanding) -> None:
        """Queue a request that was just sent."""
        if not self.waiting:
            self.progress.start(now=outstanding.begins_at)
        request_id = outstanding.reservation.request.request_id
        self.requests[request_id] = self.waiting[request_id] = outstanding
        self.waiting_work.add(outstanding.pending_s)

    def remove(self, outstanding: Outstanding) -> None:
        """Drop a request that is over or went elsewhere."""
        request_id = outstanding.reservation.request.request_id
        del self.requests[request_id]
        if self.waiting.pop(request_id, None) is not None:
            self.waiting_work.remove(outstanding.pending_s)

    def compute(
        self, outstanding: Outstanding, *, prompt_tokens_left: int, computed_tokens: int, computed_s: float
    ) -> None:
        """Release the work that was computed. A request whose prompts are complete does not wait any more."""
        self.waiting_work.remove(outstanding.pending_s)
        outstanding.prompt_tokens_left = prompt_tokens_left
        if outstanding.is_waiting:
            outstanding.pending_tokens -= computed_tokens
            outstanding.pending_s -= computed_s
            self.waiting_work.add(outstanding.pending_s)
        else:
            outstanding.pending_tokens, outstanding.pending_s = 0, 0.0
            del self.waiting[outstanding.reservation.request.request_id]

    def begin_next(self, *, now: float) -> None:
        """The replica begins with the next prompt, if one waits."""
        if self.waiting:
            self.progress.start(now=max(now, self._first.begins_at))

    def remaining_work_s(self, *, now: float, late_s: float) -> float:
        """Estimated pending work that has not been computed by now, in seconds at the model's speed."""
        pending_s = self.load.pending_s
        if not pending_s:
            return 0.0
        progress = self.progress
        done_s = min(progress.work_s(now=now + late_s), self._first.pending_s + progress.speed * late_s)
        return max(0.0, pending_s - done_s)

    def overtaken_work_s(self, prefill_s: float) -> float:
        """Seconds by which the prompts behind the first one are longer than this, in all; at the model's speed."""
        if not self.waiting:
            return 0.0
        return max(0.0, self.waiting_work.beyond_s(prefill_s) - max(0.0, self._first.pending_s - prefill_s))

    @property
    def _first(self) -> Outstanding:
        return next(iter(self.waiting.values()))

    def check_integrity(self) -> None:
        """Assert that the views of the waiting requests agree."""
        assert self.waiting == {
            request_id: outstanding for request_id, outstanding in self.requests.items() if outstanding.is_waiting
        }
        self.waiting_work.check_integrity([outstanding.pending_s for outstanding in self.waiting.values()])
