"""The routers' snapshots, over Ray Serve's deployment handles."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from pydantic import ValidationError

from serve_app.control.serve_config import ROUTER_DEPLOYMENT
from serve_app.doctor.facts import ApplicationDetails, Missing, ReplicaView, RouterAnswers, RouterView, Unsettled

ANSWER_TIMEOUT_S = 20.0
SETTLE_TIMEOUT_S = 10.0
POLL_S = 0.2

ReadRouters = Callable[[], RouterAnswers | Missing]
Place = tuple[str, str]
"""A router, and a replica that it knows."""


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
    snapshots = [result for result in results if not isinstance(result, Exception)]
    try:
        return RouterAnswers([RouterView.model_validate(snapshot) for snapshot in snapshots], errors)
    except ValidationError as error:
        fields = ", ".join(sorted({str(fault["loc"][-1]) for fault in error.errors() if fault["loc"]}))
        return Missing(f"the routers' snapshots are of another version of Warmroute (see: {fields})")


def settle(
    read: ReadRouters, before: RouterAnswers, *, now: Callable[[], float], sleep: Callable[[float], None]
) -> RouterAnswers | Missing:
    """Read until the routers count no more than before the request, and have heard of all replicas; or for a while.

    Each count must come down once, not all at the same moment: others send requests too.
    """
    deadline = now() + SETTLE_TIMEOUT_S
    counted_before = {place: seen.outstanding for place, seen in _places(before).items()}
    settled: set[Place] = set()
    while True:
        routers = read()
        if isinstance(routers, Missing):
            return routers
        places = _places(routers)
        settled |= {place for place, seen in places.items() if seen.outstanding <= counted_before.get(place, 0)}
        is_done = places.keys() <= settled and all(seen.is_heard for seen in places.values())
        if is_done or now() >= deadline:
            left = {place: seen for place, seen in places.items() if place not in settled}
            return replace(routers, unsettled=_unsettled(left, counted_before))
        sleep(POLL_S)


def _places(routers: RouterAnswers) -> dict[Place, ReplicaView]:
    return {(view.router, replica): seen for view in routers.views for replica, seen in view.replicas.items()}


def _unsettled(places: Mapping[Place, ReplicaView], counted_before: Mapping[Place, int]) -> tuple[Unsettled, ...]:
    return tuple(
        Unsettled(
            router,
            replica,
            before=counted_before.get((router, replica), 0),
            after=seen.outstanding,
            in_engine=0 if seen.engine is None else (seen.engine.waiting or 0) + (seen.engine.running or 0),
        )
        for (router, replica), seen in places.items()
    )
