"""Settings: what is shipped is valid, and a mistake is named."""

from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import get_args

import pytest
import yaml
from pydantic import ValidationError

from router import ReplicaId, RequestId, Reservation, RouteRequest
from router.policies import POLICY_NAMES, PolicyName, PrefixAffinity, make_policy
from serve_app.settings.faults import REMOVED_KEYS
from serve_app.settings.load import SettingsError, load_settings
from serve_app.settings.schema import (
    AUTOSCALING_POLICY,
    EngineModelSettings,
    ReplicaSettings,
    RouterSettings,
    Settings,
)

CONFIGS = sorted((Path(__file__).parents[3] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_shipped_configs_are_valid(path: Path) -> None:
    """Every file in configs/ loads."""
    settings = load_settings(path)
    assert settings.model_id


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_only_a_laptops_config_has_full_headers(path: Path) -> None:
    """By which the demonstration and the load tests see where requests went; others' installations may be shared."""
    is_for_laptops = path.name != "gpu-node.yaml"
    assert (load_settings(path).replicas.explain_headers == "full") is is_for_laptops


@pytest.mark.parametrize("written", ["off", "'off'", "brief", "full"])
def test_headers_are_off_as_yaml_writes_it(tmp_path: Path, written: str) -> None:
    """Which takes a plain `off` for false."""
    path = tmp_path / "settings.yaml"
    path.write_text(f"{{llm: {{}}, replicas: {{explain_headers: {written}}}}}")
    assert load_settings(path).replicas.explain_headers == written.strip("'")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_figures_are_open_on_laptops_only(path: Path) -> None:
    """Elsewhere operators decide: by a token, or by the setting."""
    settings = load_settings(path)
    assert settings.ops.open is (settings.llm["accelerator_config"]["kind"] == "cpu")
    assert not Settings(llm={}).ops.open


def test_both_machines_have_a_config() -> None:
    """One for a laptop, one for a GPU node."""
    assert {path.name for path in CONFIGS} >= {"cpu-demo.yaml", "gpu-node.yaml"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            "{llm: {}, rooting: {}}",
            "rooting is not a setting; allowed here: access, edge, engine, engine_model, http, llm, local, name, ops",
        ),
        (
            "{llm: {}, routing: {polcy: x}}",
            "routing.polcy is not a setting; allowed here: policy, shadow_policies",
        ),
        (
            "{llm: {}, routing: {policy: fast}}",
            "routing.policy = 'fast': Input should be 'prefix_affinity', 'round_rob",
        ),
        (
            "{llm: {}, routing: {load_factor: 0.5}}",
            "routing.load_factor is no setting any more: the decision counts in seconds, by engine_model, and has",
        ),
        (
            "{llm: {}, routing: {shadow_policies: [chwbl, fast]}}",
            "routing.shadow_policies.1 = 'fast': Input should be 'prefix_affinity', 'round_rob",
        ),
        (
            "{llm: {}, routing: {shadow_policies: [chwbl, random, chwbl]}}",
            "routing.shadow_policies = ['chwbl', 'random', 'chwbl']: Value error, names a policy twice; name each once",
        ),
        (
            "{llm: {}, routing: {shadow_policies: chwbl}}",
            "routing.shadow_policies = 'chwbl': Input should be a valid li",
        ),
        (
            "{llm: {}, replicas: {tenants: [acme, other]}}",
            "replicas.tenants = ['acme', 'other']: Value error, 'other' is what requests of no tenant are counted as;",
        ),
        ("{llm: {}, replicas: {tenants: [acme, acme]}}", "Value error, names a tenant twice; name each once"),
        ("{llm: {}, replicas: {tenants: [Acme Inc]}}", "replicas.tenants.0 = 'Acme Inc': String should match pattern"),
        (
            "{llm: {}, replicas: {explain_headers: on}}",
            "replicas.explain_headers = True: Input should be 'off', 'brief' or 'full'",
        ),
        (
            "{llm: {engine_kwargs: {num_gpu_blocks_override: 9}}, engine: simulated, replicas: {explain_headers: off}}",
            "engine = 'simulated' and replicas.explain_headers = 'off': its figures could be taken for real ones",
        ),
        ("{llm: {}, http: {port: 99999}}", "http.port = 99999: Input should be less than or equal to 65535"),
        ("{}", "llm is missing and has no default"),
        (
            "{llm: {engine_kwargs: {kv_events_config: {}}}, replicas: {kv_events: true}}",
            "replicas.kv_events = true, and llm.engine_kwargs.kv_events_config is set",
        ),
        (
            "{llm: {engine_kwargs: {data_parallel_size: 2}}, replicas: {kv_events: true}}",
            "replicas.kv_events = true, and llm.engine_kwargs.data_parallel_size is 2: a replica then has several KV",
        ),
        (
            "{llm: {engine_kwargs: {enable_prefix_caching: false}}, replicas: {kv_events: true}}",
            "replicas.kv_events = true, and llm.engine_kwargs.enable_prefix_caching is false: nothing is cached then",
        ),
        (
            "{llm: {engine_kwargs: {scheduler_cls: theirs.Own}}, replicas: {waiting_order: shortest}}",
            "llm.engine_kwargs.scheduler_cls is 'theirs.Own', and replicas.waiting_order = 'shortest' is done by a",
        ),
        (
            "{llm: {}, replicas: {waiting_order: longest}}",
            "replicas.waiting_order = 'longest': Input should be 'arrival'",
        ),
        (
            "{llm: {}, name: warmroute-ops}",
            "name = 'warmroute-ops' is that of the operators' application: choose another one",
        ),
        (
            "{llm: {}, route_prefix: /ops/}",
            "route_prefix and ops.route_prefix are both /ops: give one of them another path",
        ),
        ("{llm: {}, name: Up Case}", "name = 'Up Case': String should match pattern"),
        ("[1, 2]", "the file = [1, 2]: Input should be"),
        ("{llm: {", "is not valid YAML"),
    ],
)
def test_a_mistake_is_named_with_its_value_and_what_is_allowed(tmp_path: Path, content: str, expected: str) -> None:
    """One line for each fault, no traceback."""
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    assert expected in str(caught.value)


def test_a_mistake_in_the_options_of_our_autoscaling_policy_is_named() -> None:
    """Before Serve's controller meets it. Other policies are Serve's business."""
    policy = {"policy_function": AUTOSCALING_POLICY, "policy_kwargs": {"kv_use": 2}}
    llm = {"deployment_config": {"autoscaling_config": {"policy": policy}}}
    with pytest.raises(ValidationError, match=r"policy_kwargs: prefill_tokens_per_s = .*: Field required; kv_use = 2"):
        Settings(llm=llm)
    policy["policy_function"] = "somebody.elses:policy"
    assert Settings(llm=llm).llm == llm


def test_every_fault_is_reported_at_once(tmp_path: Path) -> None:
    """So that a file is fixed in one go."""
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump({"llm": {}, "routing": {"policy": "x", "polcy": "y"}, "more": 1}))
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    assert len(str(caught.value).splitlines()) == 4


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """With the reason that the system gives."""
    with pytest.raises(SettingsError, match=r"cannot read settings .*absent.yaml: No such file"):
        load_settings(tmp_path / "absent.yaml")


def test_shipped_settings_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the names that the docs use, unless the folder has a file of that name."""
    monkeypatch.chdir(tmp_path)
    name = Path("configs/cpu-demo.yaml")
    assert load_settings(name).model_id == "demo"
    name.parent.mkdir()
    name.write_text("llm: {model_loading_config: {model_id: mine}}")
    assert load_settings(name).model_id == "mine"
    with pytest.raises(SettingsError, match=r"cannot read settings configs/absent.yaml: No such file"):
        load_settings(Path("configs/absent.yaml"))
    with pytest.raises(SettingsError, match=r"cannot read settings other/cpu-demo.yaml: No such file"):
        load_settings(Path("other/cpu-demo.yaml"))


def test_settings_are_frozen() -> None:
    """They describe what was deployed; changing them changes nothing there."""
    settings = Settings(llm={})
    with pytest.raises(ValidationError, match="frozen"):
        settings.name = "other"  # type: ignore[misc]


def test_llm_options_pass_through_untouched() -> None:
    """Whatever Ray Serve LLM and vLLM support stays reachable."""
    llm = {"model_loading_config": {"model_id": "m"}, "engine_kwargs": {"anything": {"at": ["all", 1, None]}}}
    assert Settings(llm=llm).llm == llm


def test_policy_names_match_the_core() -> None:
    """The settings' list and the core's table are the same."""
    assert set(get_args(PolicyName)) == set(POLICY_NAMES)
    assert [make_policy(name, Random(0)).name for name in POLICY_NAMES] == list(POLICY_NAMES)


def test_the_engines_constants_reach_the_core() -> None:
    """Every one of them under its own name, so that the cost in seconds is that of these engines."""
    engine_model = EngineModelSettings(step_s=1, prefill_tokens_per_s=2, attention_s=3, decode_s=4, decode_context_s=5)
    router = RouterSettings(answer_tokens=7).make_router(
        policy=PrefixAffinity(), block_size=16, engine_model=engine_model
    )
    request = RouteRequest(RequestId("a"), "m", "t", num_prompt_tokens=10, block_hashes=())
    assert (
        router.cluster.load.work(Reservation(request, ReplicaId("r"), 0, is_computed=True, pending_tokens=1)) == 1 + 7
    )
    constants = asdict(router.cluster.engine_model)
    assert constants.items() <= engine_model.model_dump().items()
    assert set(constants.values()) >= {1, 2, 3, 4, 5}


@pytest.mark.parametrize("key", REMOVED_KEYS)
def test_a_setting_that_is_gone_is_named_with_the_reason(tmp_path: Path, key: str) -> None:
    """A file of an earlier version fails with a sentence for each key, not with a list of what is allowed."""
    section, name = key.split(".")
    path = tmp_path / "old.yaml"
    path.write_text(yaml.safe_dump({"llm": {}, section: {name: 1}}))
    with pytest.raises(SettingsError, match=rf"{key} is no setting any more: .*; leave it out$"):
        load_settings(path)
    assert name not in Settings(llm={}).model_dump()[section]


def test_a_scheduler_of_the_users_own_wins_over_the_default_order() -> None:
    """Where no order was set, so that it is no error; what is deployed then says whose order it is, and loads again."""
    assert Settings(llm={}).replicas.waiting_order == "shortest"
    llm = {"engine_kwargs": {"scheduler_cls": "theirs.Own"}}
    for replicas in ({"kv_events": True}, ReplicaSettings(kv_events=True)):
        settings = Settings.model_validate({"llm": llm, "replicas": replicas})
        assert settings.replicas.waiting_order == "arrival"
        assert settings.replicas.kv_events
        assert Settings.model_validate(settings.model_dump()) == settings
    with pytest.raises(ValidationError, match=r"leave scheduler_cls out, or set replicas\.waiting_order to arrival"):
        Settings(llm=llm, replicas=ReplicaSettings(waiting_order="shortest"))


def test_a_leaving_replica_hands_nothing_over_by_default(tmp_path: Path) -> None:
    """It costs those that stay time; a file switches it on."""
    assert not ReplicaSettings().hand_over
    path = tmp_path / "settings.yaml"
    path.write_text("{llm: {}, replicas: {hand_over: true}}")
    assert load_settings(path).replicas.hand_over
