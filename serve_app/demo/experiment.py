"""The comparison: each policy in turn on the same conversations, caches reset between, repeated."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from serve_app.control.running_application import RunningApplication
from serve_app.demo.conversations import RecordedConversation
from serve_app.demo.driver import Measurement, drive, tokenize
from serve_app.demo.reuse import ReuseBound


class ExperimentError(Exception):
    """The server did not do as the comparison needs."""


@dataclass(slots=True)
class PolicyExperiment:
    """Its plan and, once run, its measurements."""

    conversations: Sequence[RecordedConversation]
    policies: Sequence[str]
    repetitions: int
    concurrency: int
    max_tokens: int
    url: str
    model: str
    application: RunningApplication
    note: str = ""
    """About the server, for headings."""
    policy_to_runs: dict[str, list[list[Measurement]]] = field(default_factory=dict)
    bound: ReuseBound | None = None

    @property
    def num_requests(self) -> int:
        """Requests in one run."""
        return sum(len(conversation.turns) for conversation in self.conversations)

    def run(self, *, on_run: Callable[[str], None], on_done: Callable[[], None]) -> None:
        """Measure; leaves the policy in force that was in force before.

        Raises:
            DriveError, ExperimentError: the server does not do as it should.

        """
        self._learn_prompts()
        policy_before = self.application.policy()
        try:
            for repetition in range(self.repetitions):
                # The order alternates, so that a slow drift of the machine favours neither.
                for policy in self.policies[:: -1 if repetition % 2 else 1]:
                    on_run(f"{policy}, repetition {repetition + 1} of {self.repetitions}")
                    self.policy_to_runs.setdefault(policy, []).append(self._measure(policy, on_done))
        finally:
            self.application.set_policy(policy_before)

    def _measure(self, policy: str, on_done: Callable[[], None]) -> list[Measurement]:
        self.application.set_policy(policy)
        self.application.reset_caches()
        run = asyncio.run(
            drive(
                self.conversations,
                url=self.url,
                model=self.model,
                concurrency=self.concurrency,
                max_tokens=self.max_tokens,
                on_done=on_done,
            )
        )
        # Sent together, the first few may be computed in any order; one of them found the cache empty.
        first = sorted(run, key=lambda each: each.sent_at_s)[: self.concurrency]
        if all(each.cached_tokens for each in first):
            raise ExperimentError("no request found the caches empty after their reset: is the server in other use?")
        return run

    def _learn_prompts(self) -> None:
        turns = [turn for conversation in self.conversations for turn in conversation.turns]
        prompts = asyncio.run(tokenize(turns, url=self.url, model=self.model))
        self.bound = ReuseBound(
            {(turn.conversation, turn.number): prompt for turn, prompt in zip(turns, prompts, strict=True)},
            block_size=self.application.block_size(),
        )
