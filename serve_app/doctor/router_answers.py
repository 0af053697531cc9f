"""The routers' snapshots, over Ray Serve's deployment handles."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import msgspec

from serve_app.control.serve_config import ROUTER_DEPLOYMENT
from serve_app.doctor.facts import ApplicationDetails, Missing, RouterAnswers, Unsettled, is_heard
from serve_app.messages.snapshot import ReplicaSnapshot, RouterSnapshot

ANSWER_TIMEOUT_S = 20.0
SETTLE_TIMEOUT_S = 10.0
POLL_S = 0.2

ReadRouters = Callable[[], RouterAnswers | Missing]
Place = tuple[str, str]
"""The id of a router, and of a replica that it knows."""


def router_reader(name: str, application: ApplicationDetails | None) -> ReadRouters:
    """A function that asks every router of the application, in the cluster that this process has joined."""
    if application is None or application.routers is None:
        return lambda: Missing(f"{name} has no deployment {ROUTER_DEPLOYMENT}: it is not an application of Warmroute")
    from ray import serve
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    handle = None

    def read() -> RouterAnswers | Missing:
        nonlocal handle
        try:
            if handle is None:
                handle = serve.get_deployment_handle(ROUTER_DEPLOYMENT, app_name=name)
            results = handle.broadcast("snapshot").results(timeout_s=ANSWER_TIMEOUT_S, return_exceptions=True)
        except (RayServeException, RayError, TimeoutError) as error:
            return Missing(f"no router answers ({type(error).__name__})")
        return as_answers(results)

    return read


def as_answers(results: Sequence[object]) -> RouterAnswers | Missing:
    """The snapshots, and the errors of the routers that gave none."""
    errors = tuple(type(result).__name__ for result in results if isinstance(result, Exception))
    answers = [result for result in results if not isinstance(result, Exception)]
    try:
        return RouterAnswers([RouterSnapshot.from_plain(answer) for answer in answers], errors)
    except msgspec.ValidationError as error:
        return Missing(f"the routers' snapshots are of another version of Warmroute ({error})")


def settle(
    read: ReadRouters, before: RouterAnswers, *, now: Callable[[], float], sleep: Callable[[float], None]
) -> RouterAnswers | Missing:
    """Read until the routers count no more than before the request, and have heard of all replicas; or for a while.

    Each count must come down once, not all at the same moment: others send requests too.
    """
    deadline = now() + SETTLE_TIMEOUT_S
    counted_before = {place: replica.outstanding for place, replica in _places(before).items()}
    settled: set[Place] = set()
    while True:
        routers = read()
        if isinstance(routers, Missing):
            return routers
        places = _places(routers)
        settled |= {place for place, replica in places.items() if replica.outstanding <= counted_before.get(place, 0)}
        is_done = places.keys() <= settled and all(is_heard(replica) for replica in places.values())
        if is_done or now() >= deadline:
            left = {place: replica for place, replica in places.items() if place not in settled}
            return replace(routers, unsettled=_unsettled(left, counted_before))
        sleep(POLL_S)


def _places(routers: RouterAnswers) -> dict[Place, ReplicaSnapshot]:
    return {
        (snapshot.router, replica_id): replica
        for snapshot in routers.snapshots
        for replica_id, replica in snapshot.replicas.items()
    }


def _unsettled(places: Mapping[Place, ReplicaSnapshot], counted_before: Mapping[Place, int]) -> tuple[Unsettled, ...]:
    return tuple(
        Unsettled(
            router,
            replica_id,
            before=counted_before.get((router, replica_id), 0),
            after=replica.outstanding,
            in_engine=0 if replica.engine is None else (replica.engine.waiting or 0) + (replica.engine.running or 0),
        )
        for (router, replica_id), replica in places.items()
    )
