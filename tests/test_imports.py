"""The architecture, as a test: who may import whom, and what the core may not know."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = {"router", "serve_app", "loadtests", "benchmarks", "tests"}
ALLOWED_OURS = {
    "router": {"router"},
    "serve_app": {"router", "serve_app"},
    "loadtests": {"router", "serve_app", "loadtests"},
    "benchmarks": {"router", "serve_app", "benchmarks"},
}
CORE_FORBIDDEN_STDLIB = {"asyncio", "socket", "threading", "subprocess", "time", "logging", "os", "pathlib"}
MOUNTED = {"cli": {"loadtests"}}
"""The command line is one program, and some of its commands are the load tests'; nothing else of the application,
which production imports, may know them."""
RAY_FREE = (
    "account",
    "admission",
    "audit/command",
    "autoscaling/policy",
    "autoscaling/serve_policy",
    "autoscaling/stats",
    "brief_errors",
    "canary",
    "chat_memo",
    "cli",
    "delivery",
    "engine_pulse",
    "engine_watch",
    "environment",
    "explain",
    "extras",
    "fast_tokenizer",
    "funnel_report",
    "hand_over",
    "inbox",
    "key_samples",
    "kv_account",
    "kv_book",
    "kv_feed",
    "kv_subscription",
    "kubernetes",
    "kv_wire",
    "ledger",
    "messages",
    "parity",
    "private_logs",
    "readiness",
    "receipts",
    "recent_prompts",
    "request_body",
    "request_reader",
    "response_ids",
    "router_snapshot",
    "routing_note",
    "serve_config",
    "served_model",
    "settings",
    "settings_faults",
    "tenants",
    "text_headers",
    "tokenizer_samples",
    "top",
    "warm_up",
)
LOCUST_MODULES = {"locustfile", "load_run", "page"}
"""Importing Locust patches the standard library of the whole process."""
PRIVATE_ADAPTERS = {
    "app",
    "chat_reader",
    "client_faults",
    "host_tier",
    "ingress_router",
    "kv_publisher",
    "llm_options",
    "one_process_engine",
    "prompt",
    "replica",
    "router_channel",
    "simulated_transfers",
    "simulated_worker",
    "tokenizing",
    "vllm_scheduler",
}


def sources(package: str) -> list[Path]:
    """A package's files."""
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path, *, at_top_only: bool = False) -> Iterator[str]:
    """Dotted names that a file imports."""
    tree = ast.parse(path.read_text())
    for node in tree.body if at_top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            yield str(node.module)


@pytest.mark.parametrize("package", sorted(ALLOWED_OURS))
def test_imports_follow_the_arrows(package: str) -> None:
    """The core knows nobody, the application knows the core, and nothing imports the tests."""
    for path in sources(package):
        used = {name.partition(".")[0] for name in imports(path)} & OURS
        mounted = MOUNTED.get(path.stem, set()) if package == "serve_app" else set()
        assert used <= ALLOWED_OURS[package] | mounted, f"{path} imports {used - ALLOWED_OURS[package] - mounted}"


def test_the_command_line_loads_the_load_tests_late() -> None:
    """Only when one of their commands is called, so that every other one starts without them."""
    early = [name for name in imports(ROOT / "serve_app" / "cli.py", at_top_only=True) if name.startswith("loadtests")]
    assert not early


def test_the_core_is_pure() -> None:
    """Standard library and xxhash, without clock, loop, file or socket."""
    for path in sources("router"):
        for name in imports(path):
            top = name.partition(".")[0]
            assert top in {"router", "xxhash"} or top in sys.stdlib_module_names, f"{path} imports {name}"
            assert top not in CORE_FORBIDDEN_STDLIB, f"{path} imports {name}"


@pytest.mark.parametrize("module", RAY_FREE)
def test_light_modules_stay_light(module: str) -> None:
    """Settings, command line and the plain parts load without Ray, vLLM or torch."""
    for name in imports(ROOT / "serve_app" / f"{module}.py", at_top_only=True):
        assert name.partition(".")[0] not in {"ray", "vllm", "torch", "transformers"}, f"{module} imports {name}"


def test_private_names_stay_in_the_adapters() -> None:
    """Private modules of Ray, and vLLM as a whole, are imported by the adapters only."""
    for path in sources("serve_app"):
        private = [name for name in imports(path) if name.startswith("vllm") or "._" in name]
        assert not private or path.stem in PRIVATE_ADAPTERS, f"{path} imports {private}"


def test_locust_stays_in_its_modules() -> None:
    """The application does not know it, and tests start it as a process of its own."""
    for package in ("router", "serve_app", "loadtests", "tests"):
        for path in sources(package):
            knows_locust = any(name.partition(".")[0] == "locust" for name in imports(path))
            assert not knows_locust or path.stem in LOCUST_MODULES, f"{path} imports Locust"


def test_tests_import_ray_late() -> None:
    """Ray reads how to join a cluster when it is first imported; collecting tests must not decide that."""
    for package in ("tests", "loadtests"):
        for path in sources(package):
            early = [name for name in imports(path, at_top_only=True) if name.partition(".")[0] in {"ray", "vllm"}]
            assert not early, f"{path} imports {early} at its top"


def test_collecting_tests_does_not_import_ray() -> None:
    """Nor by way of what they import."""
    folders = {package: sources(package) for package in ("tests", "loadtests")}
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for paths in folders.values()
        for path in paths
        if path.stem not in {"__main__", "__init__"}
    ]
    code = f"""
import importlib, sys
for name in {names}:
    importlib.import_module(name)
    assert 'ray' not in sys.modules, name
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
