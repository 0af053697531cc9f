"""Ray's HAProxy configuration and Lua program, with our rules in them. Pure text; every place is found or named.

Adapter: the places in Ray's text are listed in tests/serve_app/test_private_names.py.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from importlib import resources
from pathlib import PurePath

from serve_app.edge.keys import CLOSED, NEVER
from serve_app.edge.options import TOKEN_HEADER, EdgeOptions
from serve_app.edge.paths import CLIENT_PATHS, path_pattern
from serve_app.messages.errors import ANTHROPIC_PATH, KEYS_UNKNOWN, NO_KEY, error
from serve_app.tenants.credentials import TENANT_HEADER

SOURCES = "warmroute_sources"
"""The table of clients' addresses."""
RATE_PERIOD_S = 10
MAX_SOURCES = 100_000
MAX_PATH_CHARS = 8192
MAX_ID_CHARS = 256
KEEP_ALIVE = ("option srvtcpka", "srvtcpka-idle 10s", "srvtcpka-intvl 5s", "srvtcpka-cnt 3")
"""Half a minute after its last packet a replica's host is taken to be gone, however long an answer may take."""

ROUTED = "has_ingress_request_router_app"
"""Ray's condition for requests to applications that have routers."""
HOT_BUFFERS = 8
"""Each of HAProxy's threads keeps so many buffers for its next requests, as to ask the system for each would cost a
request 0.2 ms. What is beyond goes back to the system (`serve_app.edge.program`)."""

DEFAULTS = "defaults\n    mode http\n"
CLIENT_BIND = re.compile(r"^frontend http_frontend\n    bind [^\s:]*:(\d+)$", re.MULTILINE)
BUFFER_SIZE = re.compile(r"^    tune.bufsize (\d+)$", re.MULTILINE)
METRICS_BIND = re.compile(r"^frontend prometheus\n    bind :(\d+)$", re.MULTILINE)
STATISTICS_BIND = re.compile(r"^listen stats\n  bind \*:(\d+)$", re.MULTILINE)
ADMIN_SOCKET = re.compile(r"^    stats socket (\S+) mode 666 ", re.MULTILINE)
LUA_LOAD = re.compile(r"^    lua-load-per-thread (\S+)$", re.MULTILINE)
BODY_WAIT = re.compile(rf"^    http-request wait-for-body time \d+s if METH_POST {ROUTED}$", re.MULTILINE)
ROUTED_APPLICATION = re.compile(
    r"^    http-request set-var\(txn\.ingress_request_router_app\) str\((\S+)\) if is_\1 ", re.MULTILINE
)
CLIENT_FRONTEND = re.compile(r"^frontend http_frontend$.*?^backend ", re.MULTILINE | re.DOTALL)
PATH_PREFIX = re.compile(r"^    acl is_(\S+) path (/\S*)$", re.MULTILINE)
ROUTER_FAILED = re.compile(
    r"^    http-request return status 503 content-type text/plain lf-string \"Ingress request router failed.*\n",
    re.MULTILINE,
)
SESSION_HEADER = re.compile(r'^local SESSION_HEADER = "([a-z0-9_-]*)"$', re.MULTILINE)
LUA_TABLES = re.compile(r"^local ROUTERS = (\{.*?^\})\nlocal REPLICA_TARGETS = (\{.*?^\})$", re.MULTILINE | re.DOTALL)


class EdgeError(Exception):
    """Ray's text is not as expected; the message says what is missing. HAProxy must not start without our rules."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer of HAProxy's own, in the words of an API."""

    status: HTTPStatus
    message: str
    header: str = ""
    """One more, `name value`."""
    path: str = ""
    """A path of the API in whose shape it is; OpenAI's by default."""

    def rule(self, condition: str) -> str:
        """One line of configuration."""
        content = json.dumps(error(self.path, self.status, self.message)).replace(
            "'", r"\u0027"
        )  # within single quotes, nothing is special
        header = f" hdr {self.header}" if self.header else ""
        return (
            f"    http-request return status {self.status.value} content-type application/json "
            f"string '{content}'{header} if {condition}"
        )


@dataclass(frozen=True, slots=True)
class RouterProgram:
    """The Lua program by which HAProxy asks routers."""

    path: PurePath
    """The file's path."""
    text: str
    session_header: str
    """The header in which clients name their conversation; empty for none."""


def admin_socket_of(config: str) -> PurePath:
    """The socket in Ray's configuration by which a running HAProxy is told things.

    Raises:
        EdgeError: Ray's configuration has none.

    """
    found = ADMIN_SOCKET.search(config)
    if found is None:
        raise EdgeError("Ray's HAProxy configuration has no administrative socket")
    return PurePath(found[1])


def lua_path_of(config: str) -> PurePath | None:
    """Ray's Lua program; None as long as there is no router."""
    found = LUA_LOAD.search(config)
    return None if found is None else PurePath(found[1])


def edge_config(
    config: str, options: EdgeOptions, program: RouterProgram | None, *, key_map: PurePath | None = None
) -> str:
    """Ray's configuration with our rules.

    Args:
        config: as Ray wrote it.
        options: of the edge.
        program: in place of Ray's; None as long as there is no router.
        key_map: the map of API keys; None where any key is accepted.

    Raises:
        EdgeError: a place in Ray's text was not found.

    """
    config = _replaced(config, DEFAULTS, DEFAULTS + _defaults(options), "the defaults")
    config = _sub(config, BUFFER_SIZE, _buffers, "the size of buffers")
    config = _sub(config, ADMIN_SOCKET, lambda path: f"    stats socket {path} mode 600 ", "the administrative socket")
    config = _sub(config, CLIENT_BIND, lambda port: _client_frontend(port, options), "the clients' frontend")
    config = _sub(config, METRICS_BIND, lambda port: f"frontend prometheus\n    bind 127.0.0.1:{port}", "metrics")
    config = _sub(config, STATISTICS_BIND, lambda port: f"listen stats\n  bind 127.0.0.1:{port}", "statistics")
    if program is not None:
        config = _sub(config, LUA_LOAD, lambda _: f"    lua-load-per-thread {program.path}", "the Lua program")
        key_rules = [] if key_map is None else _key_rules(key_map)
        rules = [*key_rules, *_path_rules(config, options), *_id_rules(program.session_header)]
        wait = f"    http-request wait-for-body time {_ms(options.body_timeout_s)} if METH_POST {ROUTED}"
        config = _sub(config, BODY_WAIT, lambda _: "\n".join([*rules, wait]), "the wait for bodies")
        # What no router placed goes to the live replica with the fewest connections, by Ray's own next rules.
        config = _sub(config, ROUTER_FAILED, lambda _: "", "the answer where no router decides")
    return config + _source_table()


def router_program(ray_program: str, options: EdgeOptions, *, path: PurePath, token: str) -> RouterProgram:
    """Ours, with the routers and replicas of Ray's.

    Args:
        ray_program: as Ray wrote it.
        options: of the edge.
        path: where ours is put.
        token: what routers know HAProxy by.

    Raises:
        EdgeError: Ray's program has no such tables.

    """
    tables, session_header = LUA_TABLES.search(ray_program), SESSION_HEADER.search(ray_program)
    if tables is None or session_header is None:
        raise EdgeError("Ray's Lua program lacks one of ROUTERS, REPLICA_TARGETS and SESSION_HEADER")
    values = {
        "ROUTERS": tables[1],
        "REPLICA_TARGETS": tables[2],
        "ROUTER_TIMEOUT_S": str(options.router_timeout_s),
        "ROUTER_RETRY_S": str(options.router_retry_s),
        "SESSION_HEADER": json.dumps(session_header[1]),
        "TOKEN_HEADER": json.dumps(TOKEN_HEADER),
        "TOKEN": json.dumps(token),
        "TENANT_HEADER": json.dumps(TENANT_HEADER),
    }
    template = resources.files("serve_app.edge").joinpath("route.lua").read_text()
    text = re.sub(r"@([A-Z_]+)@", lambda place: values[place[1]], template)
    return RouterProgram(path, text, session_header[1])


def _defaults(options: EdgeOptions) -> str:
    lines = (f"timeout http-request {_ms(options.head_timeout_s)}", "option forwardfor", *KEEP_ALIVE)
    return "".join(f"    {line}\n" for line in lines)


def _buffers(size: str) -> str:
    return f"    tune.bufsize {size}\n    tune.memory.hot-size {HOT_BUFFERS * int(size)}"


def _client_frontend(port: str, options: EdgeOptions) -> str:
    lines = ["frontend http_frontend", f"    bind {options.host or '*'}:{port}"]
    if options.certificate is not None:
        lines.append(f"    bind *:{options.tls_port} ssl crt {options.certificate} alpn h2,http/1.1")
    return "\n".join([*lines, *_source_rules(options), *_head_rules(options)])


def _source_rules(options: EdgeOptions) -> list[str]:
    rules = [f"    tcp-request connection track-sc0 src table {SOURCES}"]
    if options.max_connections_per_source is not None:
        most = options.max_connections_per_source
        rules.append(f"    tcp-request connection reject if {{ sc_conn_cur(0) gt {most} }}")
    if options.max_requests_per_s_per_source is not None:
        most = round(options.max_requests_per_s_per_source * RATE_PERIOD_S)
        refusal = Refusal(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"More than {most} requests in {RATE_PERIOD_S} s came from this address; try again later.",
            f"retry-after {RATE_PERIOD_S}",
        )
        rules.append(refusal.rule(f"{{ sc_http_req_rate(0) gt {most} }}"))
    return rules


def _head_rules(options: EdgeOptions) -> list[str]:
    most_bytes = options.max_head_kib * 1024
    too_large = Refusal(
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"The request's headers have more than {most_bytes} bytes."
    )
    too_long = Refusal(
        HTTPStatus.REQUEST_URI_TOO_LONG, f"The request's path has more than {MAX_PATH_CHARS} characters."
    )
    return [
        "    http-request set-header x-forwarded-proto https if { ssl_fc }",
        too_large.rule(f"{{ req.hdrs,length gt {most_bytes} }}"),
        too_long.rule(f"{{ url,length gt {MAX_PATH_CHARS} }}"),
    ]


def _id_rules(session_header: str) -> list[str]:
    """What a client names its request and its conversation goes to routers, logs and answers."""
    rules = []
    for name in filter(None, ("x-request-id", session_header)):
        malformed = Refusal(
            HTTPStatus.BAD_REQUEST,
            f"The header {name} must be at most {MAX_ID_CHARS} printable ASCII characters: shorten it, or omit it.",
        )
        is_right = f"{{ req.fhdr({name}) -m reg '^[ -~]{{0,{MAX_ID_CHARS}}}$' }}"
        rules.append(malformed.rule(f"{ROUTED} {{ req.fhdr({name}) -m found }} !{is_right}"))
    return rules


def _key_rules(key_map: PurePath) -> list[str]:
    """Who asks, by the key's digest. Several keys in one request are none, unless they are the same."""
    num_bearers, num_api_keys = "req.fhdr_cnt(authorization)", "req.fhdr_cnt(x-api-key)"
    is_same = "var(txn.warmroute_key),strcmp(txn.warmroute_api_key) eq 0"
    expires = "var(txn.warmroute_expires)"
    has_expired = f"!{{ {expires} -m str {NEVER} }} {{ date,sub(txn.warmroute_expires) ge 0 }}"
    closed = f"    http-request set-var(txn.warmroute_closed) str({CLOSED}),map_str({key_map})"
    rules = [
        f"    http-request set-var(txn.warmroute_key) http_auth_bearer if {{ {num_bearers} eq 1 }}",
        f"    http-request set-var(txn.warmroute_api_key) req.fhdr(x-api-key) if {{ {num_api_keys} eq 1 }}",
        f"    http-request set-var(txn.warmroute_key) var(txn.warmroute_api_key) if {{ {num_bearers} eq 0 }}",
        f"    http-request unset-var(txn.warmroute_key) if {{ {num_api_keys} eq 1 }} !{{ {is_same} }}",
        *(f"    http-request unset-var(txn.warmroute_key) if {{ {num} gt 1 }}" for num in (num_bearers, num_api_keys)),
        f"    http-request set-var(txn.warmroute_caller) var(txn.warmroute_key),sha2(256),hex,lower,map_str({key_map})",
        "    http-request set-var(txn.warmroute_tenant) var(txn.warmroute_caller),field(1,' ')",
        "    http-request set-var(txn.warmroute_expires) var(txn.warmroute_caller),field(2,' ')",
        f"    http-request unset-var(txn.warmroute_tenant) if {has_expired}",
    ]
    is_closed = "{ var(txn.warmroute_closed) -m found }"
    # A browser asks what is allowed before it sends a key.
    is_unknown = "!METH_OPTIONS !{ var(txn.warmroute_tenant) -m found }"
    challenge = "www-authenticate Bearer"
    return [
        closed,
        *rules,
        *_in_both_shapes(HTTPStatus.SERVICE_UNAVAILABLE, KEYS_UNKNOWN, f"{ROUTED} {is_unknown} {is_closed}"),
        *_in_both_shapes(HTTPStatus.UNAUTHORIZED, NO_KEY, f"{ROUTED} {is_unknown}", header=challenge),
    ]


def _in_both_shapes(status: HTTPStatus, message: str, condition: str, *, header: str = "") -> list[str]:
    """A refusal as Anthropic's API writes it on its paths, and elsewhere as OpenAI's does."""
    is_anthropic = f"{{ path_sub {ANTHROPIC_PATH} }}"
    return [
        Refusal(status, message, header, path).rule(f"{condition} {shape}")
        for path, shape in ((ANTHROPIC_PATH, is_anthropic), ("", f"!{is_anthropic}"))
    ]


def _path_rules(config: str, options: EdgeOptions) -> list[str]:
    """Rules for the applications that have routers; others, such as the operators' page, know their own paths."""
    unknown = Refusal(HTTPStatus.NOT_FOUND, "There is no such path for clients.")
    wrong = Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "Use GET, HEAD, POST or OPTIONS.")
    application_to_prefix = _prefixes(config)
    routed = ROUTED_APPLICATION.findall(config)
    others = application_to_prefix.keys() - routed
    rules = []
    for application in routed:
        is_of = f"{{ var(txn.ingress_request_router_app) -m str {application} }}"
        prefix = application_to_prefix[application]
        # Ray looks among those that have routers alone, also where the path is that of another application below.
        below = sorted(each for each in others if application_to_prefix[each].startswith(prefix))
        rules += [f"    http-request unset-var(txn.ingress_request_router_app) if {is_of} is_{each}" for each in below]
        pattern = path_pattern(prefix, (*CLIENT_PATHS, *options.more_paths))
        rules.append(unknown.rule(f"{is_of} !{{ path -m reg '{pattern}' }}"))
    return [*rules, wrong.rule(f"{ROUTED} !METH_GET !METH_POST !METH_OPTIONS")]


def _prefixes(config: str) -> dict[str, str]:
    """The prefix of each application's paths."""
    frontend = CLIENT_FRONTEND.search(config)
    application_to_prefix = dict(PATH_PREFIX.findall(frontend[0])) if frontend else {}
    if not application_to_prefix.keys() >= set(ROUTED_APPLICATION.findall(config)):
        raise EdgeError("Ray's HAProxy configuration names no paths of an application that has routers")
    return application_to_prefix


def _source_table() -> str:
    return (
        f"backend {SOURCES}\n"
        f"    stick-table type ipv6 size {MAX_SOURCES} expire {RATE_PERIOD_S}s "
        f"store conn_cur,http_req_rate({RATE_PERIOD_S}s)\n"
    )


def _ms(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"


def _replaced(config: str, old: str, new: str, what: str) -> str:
    _check_once(config.count(old), what)
    return config.replace(old, new)


def _sub(config: str, place: re.Pattern[str], make: Callable[[str], str], what: str) -> str:
    found = list(place.finditer(config))
    _check_once(len(found), what)
    match = found[0]
    return config[: match.start()] + make(match[1] if match.re.groups else match[0]) + config[match.end() :]


def _check_once(count: int, what: str) -> None:
    if count != 1:
        raise EdgeError(f"Ray's HAProxy configuration has {what} {count} times in place of once")
