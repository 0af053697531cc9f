"""Traffic as users make it: seeded sessions of requests, from recorded texts. Pure but for reading the texts' files."""

from loadtests.workloads.session import Session, Turn, with_long_answers_scaled
from loadtests.workloads.texts import Texts, TextsError, default_texts, read_texts
from loadtests.workloads.workload import Workload, session_at, sessions

__all__ = [
    "Session",
    "Texts",
    "TextsError",
    "Turn",
    "Workload",
    "default_texts",
    "read_texts",
    "session_at",
    "sessions",
    "with_long_answers_scaled",
]
