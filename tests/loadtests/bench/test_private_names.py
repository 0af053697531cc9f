"""The contract with Ray of what only the bench uses; see tests/serve_app/test_private_names.py."""

import inspect

import pytest

from loadtests.bench.cluster import RAYS_ROUTER
from loadtests.bench.ray_application import TREE_ACTOR
from loadtests.bench.routings import RAY_ROUTINGS
from tests.serve_app.test_private_names import find

FILE = "../loadtests/bench/ray_application.py"
PREFIX_ROUTER = "ray.llm._internal.serve.routing_policies.prefix_aware.prefix_aware_router"
PREFIX_TREE = "ray.llm._internal.serve.routing_policies.prefix_aware.prefix_tree"
NAMES = [
    ("ray.llm._internal.serve.core.ingress.builder", "_build_openai_ingress_request_router"),
    ("ray.llm._internal.serve.core.ingress.router", RAYS_ROUTER),
    ("ray.serve.config", "RequestRouterConfig.request_router_class"),
    (PREFIX_ROUTER, "PrefixCacheAffinityRouter.choose_replicas"),
    (PREFIX_ROUTER, "PrefixCacheAffinityRouter.on_request_routed"),
    (PREFIX_ROUTER, "PrefixCacheAffinityRouter._probe_queue_lens"),
    (PREFIX_TREE, "PrefixTree.add_tenants"),
    (PREFIX_TREE, "PrefixTree.remove_tenants"),
    ("ray.serve._private.constants", "SERVE_NAMESPACE"),
]
SOURCES = [
    (PREFIX_ROUTER, "PrefixCacheAffinityRouter", f'actor_name = "{TREE_ACTOR}"'),
    (PREFIX_ROUTER, "PrefixCacheAffinityRouter", "actor_namespace_components = [SERVE_NAMESPACE]"),
    (PREFIX_ROUTER, "PrefixCacheAffinityRouter", 'actor_namespace = "::".join(actor_namespace_components)'),
    (PREFIX_TREE, "PrefixTree", "self.tenant_to_char_count: Dict[str, int] = {}"),
]


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[name for _, name in NAMES])
def test_a_private_name_is_still_there(module: str, name: str) -> None:
    """By import."""
    find(module, name, FILE)


@pytest.mark.parametrize(("module", "name", "text"), SOURCES, ids=[text for _, _, text in SOURCES])
def test_a_private_attribute_is_still_set(module: str, name: str, text: str) -> None:
    """By source."""
    assert text in inspect.getsource(find(module, name, FILE)), f"{module}.{name} has changed: adapt {FILE}"


@pytest.mark.parametrize("routing", RAY_ROUTINGS)
def test_rays_routers_are_where_we_look(routing: str) -> None:
    """By the paths that Ray documents."""
    module, _, name = RAY_ROUTINGS[routing].router_class.rpartition(".")
    find(module, name, FILE)


def test_ray_still_sets_the_hash_seed_too_late() -> None:
    """Why the bench sets it: when this fails, Ray may do it by itself, and what we add can go."""
    source = inspect.getsource(find("ray.llm._internal.serve.core.server.builder", "build_llm_deployment", FILE))
    read_at = source.index("deployment_cls.get_deployment_options(llm_config)")
    assert read_at < source.index("_maybe_setup_kv_aware_routing(deployment_options, llm_config)")


def test_direct_streaming_still_leaves_the_prefix_router_untold() -> None:
    """What docs/size/bench.md says of `ray_prefix`, and why there is `ray_prefix_learning`: when this fails, Ray has
    changed that, and both are to be looked at again.
    """
    source = inspect.getsource(find("ray.serve._private.router", "AsyncioRouter.choose_replica", FILE))
    assert "on_request_routed" not in source
    assert "replica = (await candidates.__anext__())[0]" in source
