"""Many runs over the machine's cores."""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import TypeVar

Argument = TypeVar("Argument")
Returned = TypeVar("Returned")


def run_all(
    run: Callable[[Argument], Returned], tasks: Sequence[Argument], *, num_jobs: int, on_done: Callable[[], None]
) -> list[Returned]:
    """The results in order of the tasks; `on_done` is called as each is finished. The first error ends it all.

    Processes are spawned, so `run` is a module's function, and tasks and results can be pickled. One job needs no
    process of its own.
    """
    if min(num_jobs, len(tasks)) <= 1:
        return [_and_tell(run(task), on_done) for task in tasks]
    with ProcessPoolExecutor(min(num_jobs, len(tasks)), mp_context=get_context("spawn")) as executor:
        futures = [executor.submit(run, task) for task in tasks]
        try:
            for future in as_completed(futures):
                _and_tell(future.result(), on_done)
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise
        return [future.result() for future in futures]


def _and_tell(result: Returned, on_done: Callable[[], None]) -> Returned:
    on_done()
    return result
