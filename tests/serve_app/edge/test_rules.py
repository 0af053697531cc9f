"""Our rules in Ray's text, which Ray's own code writes here."""

import importlib.util
import re
from pathlib import Path, PurePath

import pytest

from serve_app.edge.options import EDGE_VARIABLE, EdgeOptions
from serve_app.edge.paths import CLIENT_PATHS, path_pattern
from serve_app.edge.program import prepare
from serve_app.edge.rules import (
    ADMIN_SOCKET,
    BODY_WAIT,
    BUFFER_SIZE,
    CLIENT_BIND,
    DEFAULTS,
    LUA_LOAD,
    METRICS_BIND,
    ROUTER_FAILED,
    STATISTICS_BIND,
    EdgeError,
    RouterProgram,
    edge_config,
    lua_path_of,
    router_program,
)
from tests.serve_app.edge.running import OPTIONS, SECRET, with_options, write_config

PORTS = (8000, 9101, 8404)
TARGET = PurePath("/run/edge.lua")


@pytest.fixture(scope="module")
def ray_config(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of an application with two routers and two replicas."""
    folder = tmp_path_factory.mktemp("ray")
    return write_config(folder, routers=[1, 2], replicas={"a": 3, "b": 4}, ports=PORTS, prefix="/qwen").read_text()


@pytest.fixture(scope="module")
def program(ray_config: str) -> RouterProgram:
    """Made from the Lua program beside it."""
    path = lua_path_of(ray_config)
    assert path is not None
    return router_program(Path(path).read_text(), OPTIONS, path=TARGET, token="shown")  # noqa: S106


def test_the_program_has_rays_routers_and_replicas(program: RouterProgram) -> None:
    """And nothing left to fill in."""
    assert '{ host = "127.0.0.1", port = 1, host_header = "127.0.0.1:1" }' in program.text
    assert '["a"] = "SERVE_REPLICA_demo-Replica-a"' in program.text
    assert 'local TOKEN = "shown"' in program.text
    assert "local ROUTER_TIMEOUT_S = 0.5\nlocal ROUTER_RETRY_S = 2\n" in program.text
    assert not re.findall("@[A-Z_]+@", program.text)
    assert program.session_header == "x-session-id"


def test_every_rule_is_where_it_belongs(ray_config: str, program: RouterProgram) -> None:
    """Clients are bound and counted first; paths are looked at before a body is waited for; no router means no 503."""
    config = edge_config(ray_config, with_options(host="10.1.2.3", certificate="/tls.pem"), program)
    assert "    bind 10.1.2.3:8000\n    bind *:8443 ssl crt /tls.pem alpn h2,http/1.1\n" in config
    assert config.index("bind *:8443") < config.index("track-sc0") < config.index("return status 431")
    assert "frontend prometheus\n    bind 127.0.0.1:9101\n" in config
    assert " mode 600 level admin" in config
    assert "listen stats\n  bind 127.0.0.1:8404\n" in config
    assert f"lua-load-per-thread {TARGET}\n" in config
    assert config.index("^/qwen(") < config.index("wait-for-body time 10000ms")
    assert "tune.bufsize 2097152\n    tune.memory.hot-size 16777216\n" in config
    assert "Ingress request router failed" not in config
    assert "timeout http-request 10000ms\n" in config
    assert config.count("backend warmroute_sources\n") == 1


def test_limits_that_are_not_set_are_not_there(ray_config: str, program: RouterProgram) -> None:
    """Nor is a rate by default."""
    config = edge_config(ray_config, with_options(max_connections_per_source=None), program)
    assert "sc_conn_cur" not in config
    assert "sc_http_req_rate" not in config
    assert "sc_http_req_rate(0) gt 25 " in edge_config(
        ray_config, with_options(max_requests_per_s_per_source=2.5), program
    )


@pytest.mark.parametrize(
    "place",
    [
        re.compile(re.escape(DEFAULTS)),
        ADMIN_SOCKET,
        BUFFER_SIZE,
        CLIENT_BIND,
        METRICS_BIND,
        STATISTICS_BIND,
        LUA_LOAD,
        BODY_WAIT,
        ROUTER_FAILED,
    ],
)
def test_without_one_of_its_places_it_does_not_begin(
    ray_config: str, program: RouterProgram, place: re.Pattern[str]
) -> None:
    """A new Ray may write them otherwise; HAProxy must not start with half of the rules then."""
    changed = place.sub("", ray_config, count=1)
    assert changed != ray_config
    with pytest.raises(EdgeError, match="0 times in place of once"):
        edge_config(changed, OPTIONS, program)


def test_a_program_of_another_shape_is_refused() -> None:
    """By the names of what is looked for."""
    with pytest.raises(EdgeError, match="ROUTERS, REPLICA_TARGETS and SESSION_HEADER"):
        router_program("local ROUTERS = nil", OPTIONS, path=TARGET, token="")


def test_before_there_is_a_router_the_rest_holds(tmp_path: Path) -> None:
    """Serve starts HAProxy before any application is there."""
    config = write_config(tmp_path, routers=[], replicas={}, ports=PORTS)
    prepare(["-db", "-f", str(config)], {EDGE_VARIABLE: OPTIONS.encode()})
    text = config.read_text()
    assert "bind 127.0.0.1:8000\n    tcp-request connection track-sc0" in text
    assert "lua" not in text
    assert config.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("environment", "arguments", "message"),
    [
        ({}, ["-f", "haproxy.cfg"], "WARMROUTE_EDGE is not set"),
        ({EDGE_VARIABLE: OPTIONS.encode()}, ["-db"], "no configuration"),
        ({EDGE_VARIABLE: OPTIONS.encode()}, ["-f"], "no configuration"),
    ],
)
def test_what_is_missing_is_named(environment: dict[str, str], arguments: list[str], message: str) -> None:
    """Ray shows the sentence where it says that HAProxy did not start."""
    with pytest.raises(EdgeError, match=message):
        prepare(arguments, environment)


def test_options_survive_their_variable() -> None:
    """Also in an environment file, whose values are one line."""
    options = with_options(max_connections_per_source=None, more_paths=["/metrics"])
    assert EdgeOptions.decode(options.encode()) == options
    assert "\n" not in options.encode()
    assert SECRET not in options.encode()


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions",
        "/v1/models",
        "/v1/responses/resp_1-a.b",
        "/v1/responses/x/cancel",
        "/health",
        "/tokenize",
    ],
)
@pytest.mark.parametrize("prefix", ["/", "/qwen", "/a.b/"])
def test_clients_paths_pass(prefix: str, path: str) -> None:
    """Below the application's own."""
    assert re.search(path_pattern(prefix, CLIENT_PATHS), prefix.rstrip("/") + path)


@pytest.mark.parametrize(
    "path",
    [
        "/metrics",
        "/load",
        "/docs",
        "/openapi.json",
        "/scale_elastic_ep",
        "/sleep",
        "/reset_prefix_cache",
        "/v1/load_lora_adapter",
        "/v1/models/",
        "//v1/models",
        "/v1/models?x",
        "/v1/%6dodels",
        "/v1/responses/a/b",
        "/v1/responses/../../metrics",
        "/v1/models/../../metrics",
        "/other/v1/models",
        "/",
        "",
    ],
)
@pytest.mark.parametrize("prefix", ["/", "/qwen"])
def test_others_do_not(prefix: str, path: str) -> None:
    """Above all not what scales, resets, loads or measures."""
    assert not re.search(path_pattern(prefix, CLIENT_PATHS), prefix.rstrip("/") + path)


NOT_FOR_CLIENTS = {
    "/abort_requests",
    "/collective_rpc",
    "/fault_tolerance/apply",
    "/fault_tolerance/status",
    "/finish_weight_update",
    "/get_world_size",
    "/inference/v1/generate",
    "/init_weight_transfer_engine",
    "/is_paused",
    "/is_scaling_elastic_ep",
    "/is_sleeping",
    "/load",
    "/pause",
    "/reset_encoder_cache",
    "/reset_mm_cache",
    "/reset_prefix_cache",
    "/resume",
    "/scale_elastic_ep",
    "/server_info",
    "/sleep",
    "/start_draft_weight_update",
    "/start_profile",
    "/start_weight_update",
    "/stop_profile",
    "/tokenizer_info",
    "/update_weight_version",
    "/update_weights",
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
    "/wake_up",
    "/weight_info",
}


def test_every_path_of_vllm_is_decided_on() -> None:
    """One that vLLM adds must be put on one side or the other."""
    vllm = importlib.util.find_spec("vllm")
    assert vllm is not None
    assert vllm.origin is not None
    served = set()
    for file in (Path(vllm.origin).parent / "entrypoints").rglob("*.py"):
        for call in re.finditer(r"@router\.(?:get|post|put|delete|websocket)\(\s*\"(/[^\"]*)\"", file.read_text()):
            served.add(re.sub(r"{[^}]*}", "*", call[1]))
    assert served - set(CLIENT_PATHS) == NOT_FOR_CLIENTS
    assert served >= set(CLIENT_PATHS)
