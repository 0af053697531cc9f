"""One request in flight: everything that this router knows of it, in one place."""

from dataclasses import dataclass, field

from router.belief.eviction import Use
from router.belief.match import LastUses
from router.load.table import LoadChange
from router.outcomes.funnel import Known
from router.types import Reservation


@dataclass(slots=True)
class Outstanding:
    """A request that was sent to a replica and is not over."""

    reservation: Reservation
    pending_tokens: int
    """Prefill tokens that its replica still has to compute for it, by estimate."""
    pending_s: float
    """Seconds that an engine of the model's speed needs for these tokens."""
    prompt_tokens_left: int
    """Prompt tokens without a first output. A prompt of unknown length counts as one token."""
    answer_tokens: float
    """Expected length of each answer, in tokens."""
    reserved_at: float
    begins_at: float
    """The earliest time at which news can come that its replica has begun with it."""
    expires_at: float
    """The time at which it is given up, if no sign of life comes before."""
    has_arrived: bool = False
    """Whether its replica has told of it."""
    use: Use = field(default_factory=Use)
    """Its use of cached blocks at its replica, which are not evicted as long as it lasts."""
    last_uses: LastUses | None = None
    """The uses of its cached blocks before it was sent; None if a peer booked it before this router joined."""
    tier_blocks: int = 0
    """Leading blocks of its prompt that were estimated to be in the replica's second tier when it was sent."""
    known: Known | None = None
    """The knowledge about its prompt when it was sent; None if another router decided."""

    @property
    def is_waiting(self) -> bool:
        """Whether some of its prompts have no first token yet."""
        return self.prompt_tokens_left > 0

    @property
    def prompt_tokens(self) -> int:
        """Length of all its prompts together, in tokens; at least one."""
        return max(self.reservation.request.num_prompt_tokens, 1)

    @property
    def prefilled_tokens(self) -> int:
        """Prompt tokens with a first output."""
        return self.prompt_tokens - self.prompt_tokens_left

    @property
    def load(self) -> LoadChange:
        """Its part of the replica's load now.

        The share of its sequences that waits is the share of its prompts that is left, rounded up: the sequences of one
        prompt get their first tokens together.
        """
        request, prefilled_tokens = self.reservation.request, self.prefilled_tokens
        num_sequences = request.num_sequences
        num_running = num_sequences * prefilled_tokens // self.prompt_tokens
        num_waiting = num_sequences - num_running
        return LoadChange(
            self.pending_tokens,
            self.pending_s,
            num_waiting,
            num_running,
            num_waiting * self.answer_tokens,
            num_running * self.answer_tokens,
            prefilled_tokens * request.num_choices,
            1,
        )
