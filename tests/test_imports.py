"""The architecture, as a test: which room may import which, and what the core may not know."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("router", "serve_app", "loadtests", "benchmarks", "warmroute")

FLOORS: tuple[tuple[str, ...], ...] = (
    ("router",),
    ("serve_app.settings", "serve_app.messages", "serve_app.extras"),
    ("serve_app.tenants",),
    ("serve_app.edge", "serve_app.engines", "serve_app.prompt"),
    ("serve_app.control", "serve_app.parity", "serve_app.autoscaling"),
    ("serve_app.telemetry",),
    ("serve_app.ingress", "serve_app.replica", "serve_app.ops"),
    ("serve_app.app", "serve_app.local"),
    ("serve_app.audit", "serve_app.calibration", "serve_app.demo", "serve_app.doctor"),
    ("loadtests",),
    ("benchmarks",),
    ("warmroute",),
)
"""Rooms from the lowest floor to the highest. A room imports lower floors only, so no two rooms of a floor know each
other: the router process and the replica process share nothing but what lies below both."""
NOT_BELOW = {"warmroute": {"benchmarks"}}
"""Floors that are lower and still unknown: the wheel has no benchmarks."""
TOOLS = {f"serve_app.{name}" for name in ("local", "audit", "calibration", "demo", "doctor")}
PRODUCTION = {"router", *(room for floor in FLOORS for room in floor if room.startswith("serve_app."))} - TOOLS
FOR_LOAD_TESTS = {
    "router",
    "serve_app.settings",
    "serve_app.messages",
    "serve_app.extras",
    "serve_app.engines",
    "serve_app.control",
    "serve_app.local",
    "serve_app.telemetry",
    "serve_app.demo",
}
COMPOSES = {
    "loadtests.bench.ray_application": {"serve_app.app", "serve_app.replica"},
    "loadtests.replay.processes": {"serve_app.ingress"},
    "loadtests.replay.scaling": {"serve_app.replica"},
}
"""Modules that put production's parts together in another way: our replicas behind Ray's own routers, the router's
inbox in virtual time, and a replica's account of running requests around a simulated engine."""

CORE_FORBIDDEN_STDLIB = {"asyncio", "socket", "threading", "subprocess", "time", "logging", "os", "pathlib"}
HEAVY = {"ray", "vllm", "torch", "transformers"}
FORKED_FROM = ROOT / "tests" / "vllm_by_forking.py"
"""Imported late by `tests/engine_processes.py`, in order to import vLLM."""
LOCUST_MODULES = {"locustfile", "load_run", "page"}
"""Importing Locust patches the standard library of the whole process."""


def sources(package: str) -> list[Path]:
    """A package's files."""
    return sorted((ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    """The dotted name of a file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports(path: Path, *, at_top_only: bool = False) -> Iterator[str]:
    """Dotted names that a file imports, each down to the module or the name in it."""
    tree = ast.parse(path.read_text())
    for node in tree.body if at_top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(name: str) -> str | None:
    """The room of a dotted name; None of what is not ours."""
    package, _, rest = name.partition(".")
    if package not in PACKAGES:
        return None
    return f"{package}.{rest.partition('.')[0]}" if package == "serve_app" else package


def floor_of(room: str) -> int:
    """How high a room lies."""
    return next(number for number, floor in enumerate(FLOORS) if room in floor)


def touches_private_names(path: Path) -> bool:
    """Whether a file's name says that it may use what Ray and vLLM do not promise to keep."""
    return path.name in {"app.py", "deployment.py"} or path.name.startswith(("vllm_", "ray_"))


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_follow_the_arrows(package: str) -> None:
    """Downwards only, so there are no circles; and nothing imports the tests."""
    for path in sources(package):
        room = room_of(module_name(path))
        if room == "serve_app.__init__":
            continue
        assert room is not None
        for name in imports(path):
            assert not name.startswith("tests"), f"{path} imports {name}"
            used = room_of(name)
            if used in {None, room}:
                continue
            assert floor_of(used) < floor_of(room), f"{path} imports {name}, which does not lie below it"
            assert used not in NOT_BELOW.get(room, ()), f"{path} imports {name}"


def test_production_knows_no_tool() -> None:
    """What runs in a cluster imports neither the tools, nor the load tests, nor the command line."""
    for path in sources("serve_app"):
        if room_of(module_name(path)) in PRODUCTION:
            unknown = {room_of(name) for name in imports(path)} - PRODUCTION - {None}
            assert not unknown, f"{path} imports {unknown}"


def test_load_tests_know_only_what_clients_and_operators_see() -> None:
    """Neither the router process nor the replica process, but for what the simulator runs of them."""
    for path in sources("loadtests"):
        unknown = {room_of(name) for name in imports(path)} - {None, "loadtests"} - FOR_LOAD_TESTS
        assert unknown <= COMPOSES.get(module_name(path), set()), f"{path} imports {unknown}"


def test_the_command_line_loads_the_load_tests_late() -> None:
    """Only when one of their commands is called, so that every other one starts without them."""
    for path in sources("warmroute"):
        early = [name for name in imports(path, at_top_only=True) if name.startswith("loadtests")]
        assert not early, f"{path} imports {early} at its top"


def test_the_core_is_pure() -> None:
    """Standard library and xxhash, without clock, loop, file or socket."""
    for path in sources("router"):
        for name in imports(path):
            top = name.partition(".")[0]
            assert top in {"router", "xxhash"} or top in sys.stdlib_module_names, f"{path} imports {name}"
            assert top not in CORE_FORBIDDEN_STDLIB, f"{path} imports {name}"


def test_private_names_stay_in_the_adapters() -> None:
    """Private modules of Ray, and vLLM as a whole, are imported only by files whose names say so."""
    for path in sources("serve_app"):
        private = [
            name for name in imports(path) if name.startswith("vllm") or (name.startswith("ray") and "._" in name)
        ]
        assert not private or touches_private_names(path), f"{path} imports {private}"


def test_light_modules_stay_light() -> None:
    """Whatever is no adapter loads without Ray, vLLM or torch: settings and command line start at once."""
    for package in ("serve_app", "warmroute"):
        for path in sources(package):
            heavy = [name for name in imports(path, at_top_only=True) if name.partition(".")[0] in HEAVY]
            assert not heavy or touches_private_names(path), f"{path} imports {heavy} at its top"


def test_locust_stays_in_its_modules() -> None:
    """The application does not know it, and tests start it as a process of its own."""
    for package in (*PACKAGES, "tests"):
        for path in sources(package):
            knows_locust = any(name.partition(".")[0] == "locust" for name in imports(path))
            assert not knows_locust or path.stem in LOCUST_MODULES, f"{path} imports Locust"


def test_tests_import_ray_late() -> None:
    """Ray reads how to join a cluster when it is first imported; collecting tests must not decide that."""
    for package in ("tests", "loadtests", "benchmarks"):
        for path in sources(package):
            early = [name for name in imports(path, at_top_only=True) if name.partition(".")[0] in {"ray", "vllm"}]
            assert not early or path == FORKED_FROM, f"{path} imports {early} at its top"


def test_collecting_tests_does_not_import_ray() -> None:
    """Nor by way of what they import."""
    names = [
        module_name(path)
        for package in ("tests", "loadtests", "benchmarks", "warmroute")
        for path in sources(package)
        if path.stem not in {"__main__", "__init__"} and path != FORKED_FROM
    ]
    code = f"""
import importlib, sys
for name in {names}:
    importlib.import_module(name)
    assert 'ray' not in sys.modules, name
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
