"""Checks of what the application stands on: Serve, nodes, their environment, ports. Pure: facts in, finding out."""

import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from textwrap import shorten

from serve_app.doctor.facts import (
    EDGE_NUMBERS,
    EDGE_TEXTS,
    HARD_STOP,
    NUMBERS,
    RAY_DEFAULTS,
    SERVER_TIMEOUT,
    Facts,
    Missing,
    Node,
    NodeView,
    default_environment,
)
from serve_app.doctor.finding import Check, Finding, Problem, counted, failed, ok, skipped, warning
from serve_app.local.server import failure_text

RAY_SERIES = "2.60."
"""The series that pyproject.toml names: direct streaming is experimental, so releases are not interchangeable."""
VERSION_MISMATCH = "Version mismatch"
"""The start of Ray's message when a driver of another version joins."""
OWN_INSTALLATION = "Run this command from the cluster's own installation, on its head node for example."
MAX_MESSAGE_CHARS = 400
LOGS = "see the logs (Ray's dashboard under Serve, or logs/serve in Ray's session folder on that node)"


def check_application(facts: Facts) -> Finding:
    """The dashboard answers, and the application runs."""
    name, dashboard_url = facts.target.application, facts.target.dashboard_url
    if isinstance(facts.serve, Missing):
        return failed(Check.APPLICATION, Problem(facts.serve.why, "Start the cluster, or correct --dashboard."))
    application = facts.application
    if application is None:
        there = ", ".join(sorted(facts.serve.applications)) or "none"
        text = f"no application {name!r} at {dashboard_url}; there is: {there}"
        return failed(Check.APPLICATION, Problem(text, "Deploy it, or correct --application."))
    if application.status != "RUNNING":
        message = shorten(failure_text(application.model_dump()), MAX_MESSAGE_CHARS, placeholder=" ...")
        text = f"{name} is {application.status}" + (f": {message}" if message != application.status else "")
        remedy = f"While it deploys, wait; otherwise correct what is named and deploy again, or {LOGS}."
        return failed(Check.APPLICATION, Problem(text, remedy))
    return ok(Check.APPLICATION, f"{name} is RUNNING at {dashboard_url}")


def check_versions(facts: Facts) -> Finding:
    """One Ray, the right one, one vLLM and one Python everywhere, here included."""
    if isinstance(facts.nodes, Missing):
        return failed(Check.VERSIONS, _not_joined(facts.nodes.why))
    problems = [*_silent_nodes(facts.nodes), *_version_problems(facts)]
    if problems:
        return failed(Check.VERSIONS, *problems)
    versions = facts.views[0][1].versions
    text = ", ".join(f"{package} {version}" for package, version in versions.items())
    return ok(Check.VERSIONS, f"{text} on {counted(len(facts.nodes), 'node')}")


def _not_joined(why: str) -> Problem:
    if VERSION_MISMATCH in why:
        return Problem(why, OWN_INSTALLATION)
    return Problem(why, "Run this command on a node of the cluster (its head pod), or correct --ray-address.")


def _silent_nodes(nodes: Sequence[Node]) -> Iterator[Problem]:
    for node in nodes:
        if isinstance(node.view, Missing):
            remedy = "Run `ray status` there, and see logs/raylet.out in its Ray session folder."
            yield Problem(f"{node.ip} does not answer: {node.view.why}", remedy)


def _version_problems(facts: Facts) -> Iterator[Problem]:
    same = f"Install the same on every node: ray {RAY_SERIES}*, one vllm, one python."
    for package in ("ray", "vllm", "python"):
        version_to_ips: dict[str | None, list[str]] = defaultdict(list)
        for node, view in facts.views:
            version_to_ips[view.versions[package]].append(node.ip)
        if len(version_to_ips) > 1 or None in version_to_ips:
            places = (f"{version or 'absent'} on {', '.join(ips)}" for version, ips in version_to_ips.items())
            yield Problem(f"{package} is {'; '.join(places)}", same)
    for version in sorted({view.versions["ray"] or "" for _, view in facts.views} - {""}):
        if not version.startswith(RAY_SERIES):
            yield Problem(f"ray is {version}; Warmroute is made for {RAY_SERIES}*", same)
        if version != facts.driver_ray:
            yield Problem(f"this command has ray {facts.driver_ray}, the cluster {version}", OWN_INSTALLATION)


def check_environment(facts: Facts) -> Finding:
    """Every variable of the data path is set on every node, to the value that it needs."""
    wanted = _wanted(facts.reference)
    ip_and_faults = [(node.ip, _faults(view.environment, wanted)) for node, view in facts.views]
    ip_and_faults = [(ip, faults) for ip, faults in ip_and_faults if faults]
    if ip_and_faults:
        texts = (f"{fault} on {ip}" for ip, faults in ip_and_faults for fault in faults.values())
        orders = (f"{_assignments(faults, wanted)} on {ip}" for ip, faults in ip_and_faults)
        remedy = (
            f"Set {'; '.join(orders)}, in the environment of `ray start` or of the container, and restart that node: "
            "Ray reads them when it starts."
        )
        return failed(Check.ENVIRONMENT, Problem("; ".join(texts), remedy))
    if isinstance(facts.nodes, Missing) or len(facts.views) < len(facts.nodes):
        return skipped(Check.ENVIRONMENT, waits_for=Check.VERSIONS)
    numbers = ", ".join(f"{variable}={wanted[variable]}" for variable in NUMBERS if variable in wanted)
    return ok(Check.ENVIRONMENT, f"{len(wanted)} variables as wanted on {counted(len(facts.nodes), 'node')}; {numbers}")


def _wanted(reference: NodeView | None) -> Mapping[str, str]:
    """The fixed values, and those that the operator has chosen, as the head has them."""
    wanted = default_environment()
    seen = {} if reference is None else reference.environment
    has_edge = reference is None or any(seen.get(variable) for variable in EDGE_TEXTS)
    if not has_edge:
        wanted = {variable: value for variable, value in wanted.items() if variable not in (*EDGE_TEXTS, *EDGE_NUMBERS)}
    for variable in wanted.keys() & {*NUMBERS, *EDGE_TEXTS}:
        chosen = seen.get(variable) or ""
        if (variable in EDGE_TEXTS and chosen) or (chosen.isdecimal() and int(chosen) > 0):
            wanted[variable] = chosen
    return wanted


def _faults(environment: Mapping[str, str | None], wanted: Mapping[str, str]) -> dict[str, str]:
    """What is wrong with each variable, by its name."""
    faults = {}
    for variable, value in wanted.items():
        seen = environment.get(variable)
        if seen is None:
            faults[variable] = f"{variable} is not set"
        elif seen != value:
            faults[variable] = f"{variable} is {seen!r}, not {value!r},"
    return faults


def _assignments(variables: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    return " ".join(f"{variable}={shlex.quote(wanted[variable])}" for variable in variables)


def check_hard_stop(facts: Facts) -> Finding:
    """How long a stream survives a reload of HAProxy."""
    if not facts.views:
        return skipped(Check.HARD_STOP, waits_for=Check.VERSIONS)
    seconds = min(view.number(HARD_STOP) for _, view in facts.views)
    silence_s = max(view.number(SERVER_TIMEOUT) for _, view in facts.views)
    remedy = (
        f"Set {HARD_STOP} above your longest stream (http.hard_stop_after_s for `warmroute serve`) on every node, "
        "and restart it."
    )
    cut = f"streams are cut {seconds} s after any replica of the cluster comes or goes"
    if seconds <= RAY_DEFAULTS[HARD_STOP]:
        return warning(Check.HARD_STOP, Problem(f"{cut}; Ray's default is {RAY_DEFAULTS[HARD_STOP]} s", remedy))
    if seconds < silence_s:
        text = f"{cut}, though HAProxy would let one be silent for {silence_s} s ({SERVER_TIMEOUT})"
        return warning(Check.HARD_STOP, Problem(text, remedy))
    return ok(Check.HARD_STOP, f"streams outlive a reload of HAProxy by {seconds} s")


def check_ports(facts: Facts) -> Finding:
    """Clients reach HAProxy, and it listens wherever Serve wants a proxy."""
    problems = [*_url_problem(facts), *_port_problems(facts)]
    if problems:
        return failed(Check.PORTS, *problems)
    if isinstance(facts.serve, Missing) or not facts.serve.proxy_nodes:
        return skipped(Check.PORTS, waits_for=Check.APPLICATION)
    views = [view for node, view in facts.views if node.node_id in facts.serve.proxy_nodes]
    if len(views) < len(facts.serve.proxy_nodes):
        return skipped(Check.PORTS, waits_for=Check.VERSIONS)
    numbers = {f"{use} {port.number}" for view in views for use, port in view.ports.items()}
    in_use = sorted({port for _, view in facts.views for port in view.replica_ports})
    text = f"{facts.target.url} accepts connections; HAProxy listens on {counted(len(views), 'node')}"
    return ok(Check.PORTS, f"{text}: {', '.join(sorted(numbers))}; replica ports in use: {_joined(in_use)}")


def _url_problem(facts: Facts) -> Iterator[Problem]:
    if facts.url_error is not None:
        options = None if isinstance(facts.serve, Missing) else facts.serve.http_options
        remedy = "Correct --url." if options is None else f"Correct --url; Serve's port is {options.port}."
        yield Problem(f"no one accepts connections at {facts.target.url}: {facts.url_error}", remedy)


def _port_problems(facts: Facts) -> Iterator[Problem]:
    if isinstance(facts.serve, Missing):
        return
    remedy = f"HAProxy does not run there, or not as it should: {LOGS}."
    for node, view in facts.views:
        if node.node_id not in facts.serve.proxy_nodes:
            continue
        closed = [f"{port.number} ({use})" for use, port in view.ports.items() if not port.accepts]
        if closed:
            yield Problem(f"on {node.ip} no one listens on {', '.join(closed)}", remedy)
        if facts.serve.proxies[node.node_id].status == "UNHEALTHY":
            yield Problem(f"Serve calls the proxy on {node.ip} UNHEALTHY", remedy)


def _joined(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers)) or "none"
