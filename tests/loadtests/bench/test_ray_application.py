"""Ray's applications beside ours: their configuration, the router that learns, and the tree that is emptied."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from loadtests.bench import ray_application
from loadtests.bench.ray_application import empty_prefix_tree, ray_application_config
from loadtests.bench.routings import RAY_ROUTINGS
from serve_app.engines.options import replica_options
from serve_app.settings.schema import Settings

SETTINGS = Settings(
    llm={"model_loading_config": {"model_id": "demo"}, "deployment_config": {"num_replicas": 3}}, engine="vllm"
)


@pytest.mark.parametrize("routing", RAY_ROUTINGS.values(), ids=str)
def test_an_application_is_ours_but_for_name_path_and_router(routing: Any) -> None:
    """The same model, replicas and engine."""
    config = ray_application_config(SETTINGS, routing)
    assert (config["name"], config["route_prefix"]) == (routing.name, f"/{routing.name}")
    assert config["import_path"] == "loadtests.bench.ray_application:build"
    deployment = config["args"]["llm"]["deployment_config"]
    assert deployment == {"num_replicas": 3, "request_router_config": {"request_router_class": routing.router_class}}
    assert "request_router_config" not in SETTINGS.llm["deployment_config"], "ours stays as it was"


def test_our_kv_events_are_off_and_those_that_a_router_of_rays_reads_have_equal_names() -> None:
    """Ours would go nowhere. What the settings say of the environment stays."""
    env_vars = {"OMP_NUM_THREADS": "1"}
    replicas = SETTINGS.replicas.model_copy(update={"kv_events": True})
    llm = {**SETTINGS.llm, "runtime_env": {"env_vars": env_vars}}
    settings = SETTINGS.model_copy(update={"replicas": replicas, "llm": llm})
    for routing in RAY_ROUTINGS.values():
        args = ray_application_config(settings, routing)["args"]
        assert not args["replicas"]["kv_events"]
        seed = {"PYTHONHASHSEED": "0"} if routing.name == "ray_kv_aware" else {}
        assert args["llm"]["runtime_env"]["env_vars"] == env_vars | seed


@pytest.mark.parametrize("engine", ["vllm", "simulated"])
@pytest.mark.parametrize("waiting_order", [None, "arrival", "shortest"])
def test_prompts_wait_in_the_same_order_behind_every_router(engine: str, waiting_order: str | None) -> None:
    """What Serve gives the replicas of Ray's routings is, for their engines, what it gives those of ours."""
    replicas = {} if waiting_order is None else {"waiting_order": waiting_order}
    llm = {**SETTINGS.llm, "engine_kwargs": {"num_gpu_blocks_override": 10}}
    settings = Settings.model_validate({"llm": llm, "engine": engine, "replicas": replicas})
    ours = replica_options(settings)["engine_kwargs"]
    assert ("scheduler_cls" in ours) == (waiting_order != "arrival")
    for routing in RAY_ROUTINGS.values():
        args = ray_application_config(settings, routing)["args"]
        assert replica_options(Settings.model_validate(args))["engine_kwargs"] == ours


def learning_router(monkeypatch: pytest.MonkeyPatch, *, ranks: list[list[Any]], queues: dict[str, int | None]) -> Any:
    """With a choice and queue lengths given; notes what it is told."""
    from ray.serve.llm.request_router import PrefixCacheAffinityRouter

    async def choose(*_: object) -> list[list[Any]]:
        await asyncio.sleep(0)
        return ranks

    async def probe(replicas: list[Any], _: int) -> list[tuple[Any, int | None]]:
        await asyncio.sleep(0)
        return [(each, queues[each.replica_id]) for each in replicas]

    monkeypatch.setattr(PrefixCacheAffinityRouter, "choose_replicas", choose)
    router_class: Any = ray_application.LearningRouter
    router = object.__new__(router_class)
    router.told = []
    monkeypatch.setattr(router_class, "_probe_queue_lens", staticmethod(probe))
    monkeypatch.setattr(router_class, "on_request_routed", lambda self, _, replica, __: self.told.append(replica))
    return router


def replica(name: str) -> Any:
    """By its id."""
    return SimpleNamespace(replica_id=name)


@pytest.mark.parametrize(
    ("queues", "chosen"),
    [({"a": 2, "b": 1}, "b"), ({"a": 1, "b": 1}, "a"), ({"a": None, "b": 7}, "b"), ({"a": None, "b": None}, "a")],
)
def test_the_learning_router_takes_the_shortest_queue_and_is_told(
    monkeypatch: pytest.MonkeyPatch, queues: dict[str, int | None], chosen: str
) -> None:
    """Of those that Ray's rule names; one that does not answer is passed over, unless none does."""
    router = learning_router(monkeypatch, ranks=[[replica("a"), replica("b")]], queues=queues)
    (rank,) = asyncio.run(router.choose_replicas([], object()))
    assert [each.replica_id for each in rank] == [chosen]
    assert router.told == [chosen]


def test_without_a_choice_there_is_nothing_to_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when no replica runs."""
    router = learning_router(monkeypatch, ranks=[], queues={})
    assert asyncio.run(router.choose_replicas([], object())) == []
    assert router.told == []


class LocalActor:
    """Ray's tree in this process, called as an actor."""

    def __init__(self, tree: Any) -> None:
        self._tree = tree

    def __getattr__(self, name: str) -> Any:
        if name == "getattr":
            return SimpleNamespace(remote=lambda attribute: getattr(self._tree, attribute))
        return SimpleNamespace(remote=getattr(self._tree, name))


def test_the_prefix_tree_forgets_texts_and_keeps_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Ray's own tree."""
    import ray
    from ray.llm._internal.serve.routing_policies.prefix_aware.prefix_tree import PrefixTree

    tree = PrefixTree()
    tree.add_tenants(["a", "b"], 0.0)
    tree.insert("a long text", "a", 1.0)
    assert tree.prefix_match("a long text")[0] == "a long text"
    monkeypatch.setattr(ray, "get_actor", lambda *_, **__: LocalActor(tree))
    monkeypatch.setattr(ray, "get", lambda value: value)
    empty_prefix_tree("ray_prefix", "LLM")
    assert tree.tenant_to_char_count == {"a": 0, "b": 0}
    assert tree.prefix_match("a long text")[0] == ""
    tree.insert("another", "b", 2.0)
    assert tree.prefix_match("another") == ("another", ["b"])


def test_other_routers_have_no_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing to empty."""
    import ray

    def none(*_: object, **__: object) -> None:
        raise ValueError("no such actor")

    monkeypatch.setattr(ray, "get_actor", none)
    empty_prefix_tree("ray_consistent_hash", "LLM")
