"""Settings to Serve's declarative config."""

from pathlib import Path
from typing import Any

import pytest

from serve_app.control.environment import data_path_environment
from serve_app.control.serve_config import ROUTER_DEPLOYMENT, serve_config
from serve_app.edge.options import EDGE_VARIABLE, EdgeOptions
from serve_app.settings.load import SettingsError
from serve_app.settings.schema import OPS_APPLICATION, OpsSettings, RouterSettings, RoutingSettings, Settings
from serve_app.settings.vllm_options import with_absolute_model_path

SETTINGS = Settings(
    llm={"model_loading_config": {"model_id": "m"}},
    routing=RoutingSettings(policy="least_loaded", shadow_policies=["chwbl"]),
)


def test_routing_travels_as_user_config_and_nowhere_else() -> None:
    """In the arguments it would restart every replica at each change."""
    application, _ = serve_config(SETTINGS)["applications"]
    (router,) = application["deployments"]
    assert router["name"] == ROUTER_DEPLOYMENT
    assert router["user_config"]["policy"] == "least_loaded"
    assert router["user_config"]["shadow_policies"] == ["chwbl"]
    assert set(application["args"]) == {"access", "engine", "engine_model", "llm", "replicas", "routers", "tokenizer"}


@pytest.mark.parametrize(
    "scaling",
    [{"num_replicas": 4}, {"autoscaling_config": {"min_replicas": 2, "target_ongoing_requests": 8}}],
)
def test_the_number_of_replicas_is_no_argument(scaling: dict[str, Any]) -> None:
    """It would restart every replica at each change, too. What else is said of the deployment stays."""
    llm = {"model_loading_config": {"model_id": "org/m-1.5"}, "deployment_config": {"health_check_period_s": 5}}
    arguments = []
    for each in ({"num_replicas": 1}, scaling):
        settings = SETTINGS.model_copy(
            update={"llm": {**llm, "deployment_config": {**llm["deployment_config"], **each}}}
        )
        application, _ = serve_config(settings)["applications"]
        _, replicas = application["deployments"]
        assert replicas == {"name": "LLMReplica:org--m-1_5", **each}
        arguments.append(application["args"])
    assert arguments[0] == arguments[1]
    assert arguments[0]["llm"]["deployment_config"] == {"health_check_period_s": 5, "num_replicas": 1}


def test_bounds_alone_scale_nothing() -> None:
    """As with Ray Serve LLM's own default, which is not applied beside the arguments."""
    from ray.llm._internal.serve.core.server.builder import DEFAULT_DEPLOYMENT_OPTIONS

    llm = {"model_loading_config": {"model_id": "m"}, "deployment_config": {"autoscaling_config": {"min_replicas": 2}}}
    application, _ = serve_config(SETTINGS.model_copy(update={"llm": llm}))["applications"]
    _, replicas = application["deployments"]
    assert replicas["autoscaling_config"] == {"min_replicas": 2, **DEFAULT_DEPLOYMENT_OPTIONS["autoscaling_config"]}


def test_the_arguments_are_settings_again() -> None:
    """Serve hands them to `build` as the same type."""
    application, _ = serve_config(SETTINGS)["applications"]
    assert Settings.model_validate(application["args"]).llm == SETTINGS.llm


def test_the_operators_application_is_beside_it() -> None:
    """Unless nobody wants it."""
    _, ops = serve_config(SETTINGS)["applications"]
    assert (ops["name"], ops["route_prefix"]) == (OPS_APPLICATION, "/ops")
    assert ops["args"] == {"history": ".warmroute/ops.sqlite", "open": False}
    some = SETTINGS.model_copy(update={"ops": OpsSettings(history=None, applications=["one"], open=True)})
    assert serve_config(some)["applications"][1]["args"] == {"applications": ["one"], "open": True}
    without = SETTINGS.model_copy(update={"ops": OpsSettings(enabled=False)})
    assert len(serve_config(without)["applications"]) == 1


def test_the_environment_carries_the_settings() -> None:
    """What Ray reads when it is imported."""
    environment = data_path_environment(SETTINGS)
    assert environment["RAY_SERVE_INGRESS_ROUTER_REPLICAS_PER_NODE"] == "2"
    assert environment["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"] == "3600"


def test_haproxy_has_the_routers_times() -> None:
    """How long it waits for one, and leaves alone one that failed."""
    settings = Settings(llm={}, routers=RouterSettings(answer_timeout_s=3, retry_s=7))
    options = EdgeOptions.decode(data_path_environment(settings)[EDGE_VARIABLE])
    assert (options.router_timeout_s, options.router_retry_s) == (3, 7)


def with_source(source: str) -> Settings:
    """Settings that load a model from there."""
    return Settings(llm={"model_loading_config": {"model_id": "m", "model_source": source}})


def test_a_model_folder_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's workers have another working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    assert with_absolute_model_path(with_source("model")).llm["model_loading_config"]["model_source"] == str(
        tmp_path / "model"
    )


@pytest.mark.parametrize("source", ["org/model", "s3://bucket/model"])
def test_other_sources_are_left_alone(source: str) -> None:
    """Hugging Face ids and buckets are Ray's business."""
    assert with_absolute_model_path(with_source(source)) == with_source(source)


@pytest.mark.parametrize("source", ["./absent", ".warmroute/absent", "/absent/model"])
def test_a_missing_folder_is_named(source: str) -> None:
    """Before anything is started."""
    with pytest.raises(SettingsError, match=f"model_source = '{source}': no such folder"):
        with_absolute_model_path(with_source(source))
