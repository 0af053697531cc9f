"""What the answers of one shadow come to."""

from dataclasses import dataclass

from router.types import RoutingDecision, ShadowChoice, ShadowFault


@dataclass(slots=True)
class ShadowTotals:
    """Sums over decisions. Regret and gain are kept apart: large ones of both kinds are not the same as none."""

    decisions: int = 0
    """That the shadow has an answer to."""
    agreements: int = 0
    """Of these, those that chose the replica to which the request went."""
    regret_tokens: float = 0.0
    """Where the live decision was better: prefill tokens that the shadow's would have cost more."""
    gain_tokens: float = 0.0
    """Where the shadow's was better: prefill tokens that it would have spared."""
    failures: int = 0
    """Decisions without an answer, because the shadow had failed."""

    def add(self, answer: ShadowChoice | ShadowFault, decision: RoutingDecision) -> None:
        """One answer, and the decision that steered."""
        if isinstance(answer, ShadowFault):
            self.failures += 1
            return
        self.decisions += 1
        self.agreements += answer.replica_id == decision.replica_id
        self.regret_tokens += max(0.0, answer.regret_tokens)
        self.gain_tokens += max(0.0, -answer.regret_tokens)
