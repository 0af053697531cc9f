"""Virtual time."""

from functools import partial

from loadtests.replay.agenda import Agenda


def test_things_happen_in_order_of_time_and_then_of_planning() -> None:
    """Also what is planned meanwhile; what is late happens at once."""
    agenda = Agenda()
    happened: list[tuple[str, float]] = []

    def note(name: str) -> None:
        happened.append((name, agenda.now_s))

    agenda.at(2, partial(note, "b"))
    agenda.at(2, partial(note, "c"))
    agenda.at(1, lambda: agenda.after(0.5, partial(note, "a")))
    agenda.every(2, partial(note, "beat"), first_s=1)
    agenda.run_until(4)
    agenda.at(3, partial(note, "late"))
    agenda.run_until(4)
    assert happened == [("beat", 1), ("a", 1.5), ("b", 2), ("c", 2), ("beat", 3), ("late", 4)]
