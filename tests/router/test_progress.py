"""How far a replica has come, by guess."""

from router.progress import Progress
from router.state import ProgressState


def test_nothing_is_guessed_before_a_first_prefill() -> None:
    """No rate is known."""
    progress = Progress()
    assert progress.tokens(now=5) == 0
    progress.start(now=5)
    assert progress.tokens(now=9) == 0


def test_the_guess_goes_by_what_was_computed_before() -> None:
    """1,000 tokens took 2 s, so 1.5 s into the next prompt 750 of its tokens are done."""
    progress = Progress()
    progress.start(now=10)
    progress.prefilled(1000, now=12)
    assert progress.tokens(now=13.5) == 750


def test_idle_time_is_no_work() -> None:
    """The next prompt began at 100 s, not when the last one ended."""
    progress = Progress()
    progress.start(now=0)
    progress.prefilled(1000, now=1)
    progress.start(now=100)
    assert progress.tokens(now=100.5) == 500
    progress.prefilled(2000, now=102)
    assert progress.tokens(now=103) == 1000


def test_a_peers_longer_experience_is_taken_over() -> None:
    """With its place in the present prompt; what is known better here stays."""
    progress = Progress()
    progress.adopt(ProgressState(tokens=4000, seconds=2, elapsed_s=0.5), now=50)
    assert progress.tokens(now=50) == 1000
    assert progress.export(now=50.5) == ProgressState(4000, 2, 1)
    progress.adopt(ProgressState(tokens=1, seconds=1, elapsed_s=0), now=50)
    assert progress.tokens(now=50) == 1000
