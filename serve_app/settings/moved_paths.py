"""Classes that a settings file may name and that have moved. Free of Ray."""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

OLD_TO_NEW_PATH: Final[Mapping[str, str]] = {
    "serve_app.one_process_engine.OneProcessEngine": "serve_app.engines.vllm_one_process.OneProcessEngine",
    "serve_app.simulated_worker.SimulatedWorker": "serve_app.engines.vllm_worker.SimulatedWorker",
    "serve_app.vllm_scheduler.WarmrouteScheduler": "serve_app.engines.vllm_scheduler.WarmrouteScheduler",
}


class MovedPath(NamedTuple):
    """A setting that names a class by its old path."""

    key: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.key} = {self.old!r}: this class has moved; write {self.new!r}"


def moved_paths(key: str, value: object) -> Iterator[MovedPath]:
    """All old paths in a value and in what is nested in it, however deep.

    Args:
        key: under which the value is in the settings.
        value: any YAML.

    """
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from moved_paths(f"{key}.{name}", inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from moved_paths(f"{key}.{index}", inner)
    elif isinstance(value, str):
        new = OLD_TO_NEW_PATH.get(value.replace(":", "."))
        if new is not None:
            yield MovedPath(key, value, new)
