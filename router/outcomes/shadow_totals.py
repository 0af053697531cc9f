"""The totals of one shadow's answers."""

from dataclasses import dataclass

from router.types import RoutingDecision, ShadowChoice, ShadowFault


@dataclass(slots=True)
class ShadowTotals:
    """Sums over decisions. Regret and gain are kept apart: large ones of both kinds are not the same as none."""

    decisions: int = 0
    """Decisions to which the shadow had an answer."""
    agreements: int = 0
    """Answers that named the replica to which the request went."""
    regret_tokens: float = 0.0
    """Prefill tokens by which the shadow's choice was worse, summed where it was worse."""
    gain_tokens: float = 0.0
    """Prefill tokens by which the shadow's choice was better, summed where it was better."""
    failures: int = 0
    """Decisions without an answer, because the shadow had failed."""

    def add(self, answer: ShadowChoice | ShadowFault, decision: RoutingDecision) -> None:
        """Count an answer, given the live decision."""
        if isinstance(answer, ShadowFault):
            self.failures += 1
            return
        self.decisions += 1
        self.agreements += answer.replica_id == decision.replica_id
        self.regret_tokens += max(0.0, answer.regret_tokens)
        self.gain_tokens += max(0.0, -answer.regret_tokens)
