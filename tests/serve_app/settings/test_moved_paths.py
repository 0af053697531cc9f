"""Classes of ours that have moved and that files of users may name."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from serve_app.engines.options import SCHEDULER, WORKER
from serve_app.settings.load import SettingsError, load_settings
from serve_app.settings.moved_paths import OLD_TO_NEW_PATH, moved_paths
from serve_app.settings.schema import AUTOSCALING_POLICY

ENGINE = "serve_app.one_process_engine.OneProcessEngine"
NEW_ENGINE = "serve_app.engines.vllm_one_process.OneProcessEngine"


def refusal(path: Path, llm: object) -> str:
    """The message for a file with this `llm`."""
    path.write_text(yaml.safe_dump({"llm": llm}))
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("llm", "key", "old", "new"),
    [
        (
            {"runtime_env": {"env_vars": {"RAYLLM_VLLM_ENGINE_CLS": ENGINE}}},
            "llm.runtime_env.env_vars.RAYLLM_VLLM_ENGINE_CLS",
            ENGINE,
            NEW_ENGINE,
        ),
        (
            {"engine_kwargs": {"scheduler_cls": "serve_app.vllm_scheduler.WarmrouteScheduler"}},
            "llm.engine_kwargs.scheduler_cls",
            "serve_app.vllm_scheduler.WarmrouteScheduler",
            SCHEDULER,
        ),
        (
            {"engine_kwargs": {"worker_cls": "serve_app.simulated_worker.SimulatedWorker"}},
            "llm.engine_kwargs.worker_cls",
            "serve_app.simulated_worker.SimulatedWorker",
            WORKER,
        ),
    ],
)
def test_an_old_path_is_refused_with_the_new_one(tmp_path: Path, llm: object, key: str, old: str, new: str) -> None:
    """The sentence has the key, its value, and what to write in its place."""
    assert f"{key} = {old!r}: this class has moved; write {new!r}" in refusal(tmp_path / "old.yaml", llm)


def test_all_old_paths_are_named_at_once(tmp_path: Path) -> None:
    """A file is fixed in one go."""
    llm = {
        "engine_kwargs": {"scheduler_cls": "serve_app.vllm_scheduler.WarmrouteScheduler"},
        "runtime_env": {"env_vars": {"RAYLLM_VLLM_ENGINE_CLS": ENGINE}},
    }
    message = refusal(tmp_path / "old.yaml", llm)
    assert "llm.engine_kwargs.scheduler_cls" in message
    assert "llm.runtime_env.env_vars.RAYLLM_VLLM_ENGINE_CLS" in message


def test_the_new_path_is_taken(tmp_path: Path) -> None:
    """So is a path of the user's own, whatever it is called."""
    path = tmp_path / "new.yaml"
    for name in (NEW_ENGINE, "theirs.one_process_engine.OneProcessEngine", ENGINE + "2"):
        llm = {"runtime_env": {"env_vars": {"RAYLLM_VLLM_ENGINE_CLS": name}}}
        path.write_text(yaml.safe_dump({"llm": llm}))
        assert load_settings(path).llm == llm


def test_a_path_is_found_in_lists_and_with_a_colon() -> None:
    """Ray writes some paths as `module:name`."""
    (moved,) = moved_paths("llm", {"some": [1, None, {"of": ENGINE.replace(".OneP", ":OneP")}]})
    assert (moved.key, moved.new) == ("llm.some.2.of", NEW_ENGINE)
    assert not list(moved_paths("llm", {ENGINE: "a key is no value"}))


@pytest.mark.parametrize(("old", "new"), OLD_TO_NEW_PATH.items())
def test_the_new_one_is_there_and_the_old_one_is_not(old: str, new: str) -> None:
    """The file of the new path has a class of that name."""
    assert find_spec(old.rpartition(".")[0]) is None
    module, _, name = new.rpartition(".")
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    assert f"\nclass {name}(" in Path(spec.origin).read_text()


@pytest.mark.parametrize("path", ["serve_app.app:build", "serve_app.ops.deployment:build", AUTOSCALING_POLICY])
def test_the_other_paths_of_users_files_have_stayed(path: str) -> None:
    """Serve's `import_path` of both applications, and our autoscaling policy."""
    module, _, name = path.partition(":")
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    text = Path(spec.origin).read_text()
    assert f"\ndef {name}(" in text or f"\nclass {name}" in text
