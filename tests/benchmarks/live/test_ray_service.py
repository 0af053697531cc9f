"""Reading a RayService's manifest."""

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from benchmarks.live.ray_service import ManifestError, read
from serve_app.control.environment import data_path_environment
from serve_app.control.serve_config import serve_config
from serve_app.settings.schema import RoutingSettings, Settings

SETTINGS = Settings(
    llm={"model_loading_config": {"model_id": "demo"}},
    name="chat",
    route_prefix="/chat",
    routing=RoutingSettings(policy="round_robin"),
)


def manifest() -> list[dict[str, Any]]:
    """The part that is read."""
    container = {"name": "ray-head", "envFrom": [{"configMapRef": {"name": "data-path-1"}}]}
    head = {"template": {"spec": {"containers": [container]}}}
    spec = {"serveConfigV2": yaml.safe_dump(serve_config(SETTINGS)), "rayClusterConfig": {"headGroupSpec": head}}
    return [
        {"kind": "ConfigMap", "metadata": {"name": "data-path-1"}, "data": data_path_environment(SETTINGS)},
        {"kind": "ConfigMap", "metadata": {"name": "another"}, "data": {"a": "b"}},
        {"kind": "RayService", "metadata": {"name": "warmroute"}, "spec": spec},
    ]


def test_config_and_settings_come_back() -> None:
    """The one as it is, the others as they were."""
    config, settings = read(manifest())
    assert config == serve_config(SETTINGS)
    assert settings.model_dump(exclude={"ops", "local"}) == SETTINGS.model_dump(exclude={"ops", "local"})


def without_service(objects: list[dict[str, Any]]) -> None:
    """None left."""
    objects.pop()


def another_environment(objects: list[dict[str, Any]]) -> None:
    """Somebody wrote to it."""
    objects[0]["data"] = {**objects[0]["data"], "RAY_SERVE_ENABLE_HA_PROXY": "0"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_service, "one RayService is wanted, there are 0"),
        (another_environment, "the head's ConfigMap is not the environment that serveConfigV2 wants"),
    ],
)
def test_what_does_not_fit_is_named(change: Callable[[list[dict[str, Any]]], None], message: str) -> None:
    """Before anything is started."""
    objects = manifest()
    change(objects)
    with pytest.raises(ManifestError, match=message):
        read(objects)
