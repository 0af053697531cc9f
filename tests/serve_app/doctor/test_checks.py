"""What `warmroute doctor` says, for every way in which things can be wrong."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from serve_app.control.environment import data_path_environment
from serve_app.doctor.cluster_checks import (
    RAY_SERIES,
    check_application,
    check_environment,
    check_hard_stop,
    check_ports,
    check_versions,
)
from serve_app.doctor.facts import (
    EDGE_NUMBERS,
    EDGE_TEXTS,
    HARD_STOP,
    NUMBERS,
    ROUTERS_PER_NODE,
    SERVER_TIMEOUT,
    Answer,
    ApplicationDetails,
    DeploymentDetails,
    Facts,
    Missing,
    Node,
    NodeView,
    PortView,
    ReplicaDetails,
    RouterAnswers,
    ServeDetails,
    Unsettled,
    default_environment,
)
from serve_app.doctor.finding import Check, Finding, Status
from serve_app.doctor.main import CHECKS, judge
from serve_app.doctor.routing_checks import (
    check_exclusions,
    check_parity,
    check_receipts,
    check_replicas,
    check_request,
    check_routers,
    check_tiers,
    check_tokenizer,
)
from serve_app.doctor.target import Target
from serve_app.messages.snapshot import EngineSnapshot, ReaderSnapshot, ReplicaSnapshot, RouterSnapshot
from serve_app.parity.verdicts import REMEDY, Verdict
from serve_app.settings.schema import EdgeSettings, HttpSettings, RouterSettings, Settings
from tests import snapshots

HEAD, WORKER = "10.0.0.1", "10.0.0.2"
URL = "http://10.0.0.1:8000"
DASHBOARD = "http://10.0.0.1:8265"


def full_id(replica: str) -> str:
    """As the routers know it."""
    return f"SERVE_REPLICA::app#LLMReplica#{replica}"


def haproxy_ports(*, accepts: bool = True, **numbers: int) -> dict[str, PortView]:
    """Ports by their use."""
    return {use: PortView(number, accepts) for use, number in numbers.items()}


def node_view(*, environment: dict[str, str | None] | None = None, **changes: Any) -> NodeView:
    """A node as it should be, but for what is given."""
    return replace(
        NodeView(
            versions={"ray": "2.60.0", "vllm": "0.29.0", "python": "3.11.9"},
            environment={**default_environment(), **(environment or {})},
            ports=haproxy_ports(http=8000, stats=8404, metrics=9101),
            replica_ports=[30000, 30001],
        ),
        **changes,
    )


def nodes(head: NodeView | Missing | None = None, worker: NodeView | Missing | None = None) -> list[Node]:
    """A head and a worker; the worker is listed first."""
    return [
        Node("w", WORKER, is_head=False, view=worker or node_view()),
        Node("h", HEAD, is_head=True, view=head or node_view()),
    ]


def deployment(*replicas: str, wanted: int, state: str = "RUNNING") -> DeploymentDetails:
    """Replicas or routers of one state."""
    details = [ReplicaDetails(replica_id=replica, state=state) for replica in replicas]
    return DeploymentDetails(message="", target_num_replicas=wanted, replicas=details)


def application(**changes: Any) -> ApplicationDetails:
    """Two replicas, two routers on each of two nodes."""
    deployments = {
        "LLMReplica:m": deployment("a", "b", wanted=2),
        "IngressRouter": deployment("r1", "r2", "r3", "r4", wanted=4),
    }
    fields: dict[str, Any] = {"status": "RUNNING", "message": "", "deployments": deployments}
    return ApplicationDetails(**(fields | changes))


def serve(details: ApplicationDetails | None = None, **changes: Any) -> ServeDetails:
    """Serve with a proxy on both nodes."""
    fields: dict[str, Any] = {
        "http_options": {"port": 8000},
        "proxies": {"h": {"status": "HEALTHY"}, "w": {"status": "HEALTHY"}},
        "applications": {"app": details or application()},
    }
    return ServeDetails(**(fields | changes))


def with_deployments(**changes: DeploymentDetails) -> ServeDetails:
    """Serve with other replicas (`server`) or other routers (`routers`)."""
    names = {"server": "LLMReplica:m", "routers": "IngressRouter"}
    changed = {names[name]: details for name, details in changes.items()}
    return serve(application(deployments={**application().deployments, **changed}))


def replica_snapshot(rank: int, **changes: Any) -> ReplicaSnapshot:
    """A replica that is idle and well."""
    return snapshots.replica(rank, **({"heard_s_ago": 0.3, "engine": snapshots.engine()} | changes))


def router(name: str, replicas: dict[str, ReplicaSnapshot] | None = None, **changes: Any) -> RouterSnapshot:
    """A router that knows both replicas."""
    known = {full_id("a"): replica_snapshot(0), full_id("b"): replica_snapshot(1)}
    known |= {full_id(replica): snapshot for replica, snapshot in (replicas or {}).items()}
    return snapshots.router(name, known, **({"block_size": 32} | changes))


def answers(*changed: RouterSnapshot, **changes: Any) -> RouterAnswers:
    """Four routers, the first of them as given."""
    routers = [*changed, *(router(f"r{number}") for number in range(len(changed) + 1, 5))]
    return RouterAnswers(routers, **changes)


def answer(**changes: Any) -> Answer:
    """A routed one."""
    good = Answer(200, 123.4, replica=full_id("a"), reason="ring", request_id="f00d", excerpt="{}")
    return replace(good, **changes)


def facts(**changes: Any) -> Facts:
    """Everything as it should be, but for what is given."""
    return replace(
        Facts(
            target=Target("app", URL, DASHBOARD, "auto"),
            serve=serve(),
            driver_ray="2.60.0",
            nodes=nodes(),
            url_error=None,
            routers=answers(),
            answer=answer(),
        ),
        **changes,
    )


def assert_says(finding: Finding, status: Status, text: str, remedy: str = "") -> None:
    """The status, and the decisive words of both sentences."""
    assert finding.status is status, finding
    assert text in finding.text
    assert remedy in finding.remedy
    assert bool(finding.remedy) is (status in {Status.FAILED, Status.WARNING})


def test_each_check_says_what_it_saw_where_all_is_well() -> None:
    """In the order of the enumeration, each once."""
    findings, in_use = judge(facts()), "replica ports in use: 30000, 30001"
    numbers = ", ".join(f"{variable}={default_environment()[variable]}" for variable in NUMBERS)
    assert [finding.check for finding in findings] == list(Check)
    assert [finding.status for finding in findings] == [Status.OK] * len(CHECKS)
    assert [finding.text for finding in findings] == [
        "app is RUNNING at http://10.0.0.1:8265",
        "ray 2.60.0, vllm 0.29.0, python 3.11.9 on 2 nodes",
        f"{len(default_environment())} variables as wanted on 2 nodes; {numbers}",
        "streams outlive a reload of HAProxy by 3600 s",
        f"{URL} accepts connections; HAProxy listens on 2 nodes: http 8000, metrics 9101, stats 8404; {in_use}",
        "2 of 2 run, ranks 0 to 1, known to every router",
        "4, 2 on each node with a proxy; policy prefix_affinity, blocks of 32 tokens",
        "routed to a (ring), answered 200 in 123 ms",
        "every router heard of every replica within 0.3 s, and of the request's end",
        "no router leaves out a replica",
        "every replica finds prompts by every router's keys",
        "fastokens",
        "no replica has a second one",
    ]


def test_without_the_dashboard_the_nodes_are_examined_all_the_same() -> None:
    """What needs Serve's details waits for them, directly or by way of another check."""
    findings = judge(facts(serve=Missing("no answer"), routers=Missing("no application"), answer=None))
    assert {finding.check: (finding.status, finding.text) for finding in findings if finding.status != Status.OK} == {
        Check.APPLICATION: (Status.FAILED, "no answer"),
        Check.PORTS: (Status.SKIPPED, "waits for: application"),
        Check.REPLICAS: (Status.SKIPPED, "waits for: application"),
        Check.ROUTERS: (Status.SKIPPED, "waits for: application"),
        Check.REQUEST: (Status.SKIPPED, "waits for: application"),
        Check.RECEIPTS: (Status.SKIPPED, "waits for: routers"),
        Check.EXCLUSIONS: (Status.SKIPPED, "waits for: routers"),
        Check.PARITY: (Status.SKIPPED, "waits for: routers"),
        Check.TOKENIZER: (Status.SKIPPED, "waits for: routers"),
        Check.TIERS: (Status.SKIPPED, "waits for: routers"),
    }


def test_without_ray_the_clients_way_is_examined_all_the_same() -> None:
    """Dashboard, URL and request need no Ray."""
    findings = judge(facts(nodes=Missing("refused"), routers=Missing("refused")))
    assert {finding.check: (finding.status, finding.text) for finding in findings if finding.status != Status.OK} == {
        Check.VERSIONS: (Status.FAILED, "refused"),
        Check.ENVIRONMENT: (Status.SKIPPED, "waits for: versions"),
        Check.HARD_STOP: (Status.SKIPPED, "waits for: versions"),
        Check.PORTS: (Status.SKIPPED, "waits for: versions"),
        Check.REPLICAS: (Status.SKIPPED, "waits for: routers"),
        Check.ROUTERS: (Status.SKIPPED, "waits for: versions"),
        Check.RECEIPTS: (Status.SKIPPED, "waits for: routers"),
        Check.EXCLUSIONS: (Status.SKIPPED, "waits for: routers"),
        Check.PARITY: (Status.SKIPPED, "waits for: routers"),
        Check.TOKENIZER: (Status.SKIPPED, "waits for: routers"),
        Check.TIERS: (Status.SKIPPED, "waits for: routers"),
    }


class TestApplication:
    """The dashboard, and Serve's own word."""

    def test_an_unknown_name_lists_the_known(self) -> None:
        """So that the next try is the right one."""
        finding = check_application(facts(target=Target("nope", URL, DASHBOARD, "auto")))
        assert_says(
            finding, Status.FAILED, "no application 'nope' at http://10.0.0.1:8265; there is: app", "--application"
        )

    def test_a_failed_one_says_why_in_a_line(self) -> None:
        """The last exception, without its traceback, not too long."""
        message = 'Traceback:\n  File "x.py", line 1\nRuntimeError: No GPU\nfound ' + "and so on " * 100
        finding = check_application(facts(serve=serve(application(status="DEPLOY_FAILED", message=message))))
        assert_says(finding, Status.FAILED, "app is DEPLOY_FAILED: No GPU found and so on", "deploy again")
        assert len(finding.text) < 500

    def test_one_that_says_nothing_is_not_repeated(self) -> None:
        """Its status is all there is."""
        finding = check_application(facts(serve=serve(application(status="DEPLOYING"))))
        assert finding.text == "app is DEPLOYING"


class TestVersions:
    """Ray, vLLM and Python."""

    @pytest.mark.parametrize(
        ("worker", "text"),
        [
            ({"ray": "2.60.1"}, "ray is 2.60.1 on 10.0.0.2; 2.60.0 on 10.0.0.1"),
            ({"ray": "2.61.0"}, "ray is 2.61.0; Warmroute is made for 2.60.*"),
            ({"vllm": None}, "vllm is absent on 10.0.0.2; 0.29.0 on 10.0.0.1"),
            ({"python": "3.11.8"}, "python is 3.11.8 on 10.0.0.2; 3.11.9 on 10.0.0.1"),
        ],
    )
    def test_a_node_that_differs_is_named(self, worker: dict[str, str | None], text: str) -> None:
        """With what the others have."""
        odd = node_view(versions={**node_view().versions, **worker})
        assert_says(check_versions(facts(nodes=nodes(worker=odd))), Status.FAILED, text, "Install the same on every")

    def test_what_is_absent_everywhere_is_missed(self) -> None:
        """Equal is not enough."""
        bare = node_view(versions={**node_view().versions, "vllm": None})
        finding = check_versions(facts(nodes=nodes(bare, bare)))
        assert_says(finding, Status.FAILED, "vllm is absent on 10.0.0.2, 10.0.0.1", "one vllm")

    def test_another_ray_here_is_named(self) -> None:
        """By our own comparison, or by Ray's refusal to let it join."""
        finding = check_versions(facts(driver_ray="2.60.1"))
        assert_says(finding, Status.FAILED, "this command has ray 2.60.1, the cluster 2.60.0", "own installation")
        refusal = Missing("Version mismatch: The cluster was started with: Ray: 2.59.0")
        finding = check_versions(facts(nodes=refusal))
        assert_says(finding, Status.FAILED, "started with: Ray: 2.59.0", "from the cluster's own installation")

    def test_a_cluster_that_cannot_be_joined(self) -> None:
        """Says where one must be to do it."""
        finding = check_versions(facts(nodes=Missing("cannot join: refused")))
        remedy = "on a node of the cluster (its head pod), or correct --ray-address"
        assert_says(finding, Status.FAILED, "cannot join: refused", remedy)

    def test_a_node_that_does_not_answer_is_named(self) -> None:
        """And the environment, of which a part is unknown then, waits."""
        half = facts(nodes=nodes(worker=Missing("no worker process there")))
        text = "10.0.0.2 does not answer: no worker process there"
        assert_says(check_versions(half), Status.FAILED, text, "`ray status`")
        assert_says(check_environment(half), Status.SKIPPED, "waits for: versions")
        assert_says(check_ports(half), Status.SKIPPED, "waits for: versions")

    def test_the_pinned_ray_is_pyproject_s(self) -> None:
        """The check moves with the pin."""
        pyproject = Path(__file__).parents[3] / "pyproject.toml"
        assert f"ray[serve]=={RAY_SERIES}*" in pyproject.read_text()


class TestEnvironment:
    """The variables of the data path, on every node."""

    @pytest.mark.parametrize("variable", sorted(set(default_environment()) - {*NUMBERS, *EDGE_TEXTS}))
    def test_each_fixed_variable_is_missed(self, variable: str) -> None:
        """By its name and the node's, with the order to set it."""
        finding = check_environment(facts(nodes=nodes(worker=node_view(environment={variable: None}))))
        assert_says(finding, Status.FAILED, f"{variable} is not set on 10.0.0.2", f"Set {variable}=")
        assert "on 10.0.0.2, in the environment of `ray start` or of the container" in finding.remedy
        assert HEAD not in finding.text + finding.remedy

    def test_a_wrong_value_is_shown_beside_the_wanted(self) -> None:
        """The remedy can be pasted into a shell."""
        odd = node_view(environment={"RAY_SERVE_HAPROXY_RETRY_ON": "none", "RAY_SERVE_ENABLE_HA_PROXY": "0"})
        finding = check_environment(facts(nodes=nodes(head=odd)))
        assert_says(finding, Status.FAILED, "RAY_SERVE_ENABLE_HA_PROXY is '0', not '1', on 10.0.0.1")
        assert "RAY_SERVE_HAPROXY_RETRY_ON='conn-failure 503' on 10.0.0.1" in finding.remedy

    def test_nodes_of_one_machine_are_told_apart(self) -> None:
        """They have one address."""
        twins = [Node(name, HEAD, is_head=name == "h", view=node_view()) for name in "hvw"]
        odd = node_view(environment={"RAY_SERVE_ENABLE_HA_PROXY": None})
        finding = check_environment(facts(nodes=[twins[0], replace(twins[1], view=odd), twins[2]]))
        assert_says(finding, Status.FAILED, "RAY_SERVE_ENABLE_HA_PROXY is not set on 10.0.0.1", "Set RAY_SERVE_ENABLE")

    @pytest.mark.parametrize("variable", NUMBERS)
    def test_numbers_are_the_operators_choice_but_one(self, variable: str) -> None:
        """Any value, if the head has the same."""
        other = node_view(environment={variable: "7"})
        finding = check_environment(facts(nodes=nodes(other, other)))
        assert_says(finding, Status.OK, f"{variable}=7")
        finding = check_environment(facts(nodes=nodes(head=other)))
        wanted = default_environment()[variable]
        text = f"{variable} is '{wanted}', not '7', on 10.0.0.2"
        assert_says(finding, Status.FAILED, text, f"{variable}=7 on 10.0.0.2")

    @pytest.mark.parametrize("value", ["many", "0", "", None])
    def test_a_number_must_be_one(self, value: str | None) -> None:
        """Otherwise the default is proposed, not the head's nonsense."""
        odd = node_view(environment={ROUTERS_PER_NODE: value})
        finding = check_environment(facts(nodes=nodes(odd, odd)))
        assert_says(finding, Status.FAILED, f"{ROUTERS_PER_NODE} is ", f"{ROUTERS_PER_NODE}=2 on 10.0.0.1")

    def test_the_numbers_are_all_that_settings_change(self) -> None:
        """A variable that a new setting drives must be listed with them."""
        http = HttpSettings(hard_stop_after_s=1, host="127.0.0.1")
        routers = RouterSettings(replicas_per_node=1, max_keyed_body_mib=1)
        edge = EdgeSettings(max_connections=1, client_timeout_s=1, server_timeout_s=1)
        environment = data_path_environment(
            Settings(llm={}, http=http, routers=routers, edge=edge), programs=Path("/elsewhere")
        )
        changed = environment.items() - default_environment().items()
        assert {variable for variable, _ in changed} == {*NUMBERS, *EDGE_TEXTS}

    def test_a_cluster_without_an_edge_lacks_nothing(self) -> None:
        """It is the operator's choice; but not on one node only."""
        without = node_view(environment=dict.fromkeys((*EDGE_NUMBERS, *EDGE_TEXTS)))
        assert check_environment(facts(nodes=nodes(without, without))).status is Status.OK
        finding = check_environment(facts(nodes=nodes(worker=without)))
        assert_says(finding, Status.FAILED, "WARMROUTE_EDGE is not set on 10.0.0.2", "Set RAY_SERVE_HAPROXY")

    @pytest.mark.parametrize("variable", EDGE_TEXTS)
    def test_the_edge_is_the_same_everywhere(self, variable: str) -> None:
        """Whatever it is."""
        other = node_view(environment={variable: "other"})
        assert check_environment(facts(nodes=nodes(other, other))).status is Status.OK
        finding = check_environment(facts(nodes=nodes(head=other)))
        assert_says(finding, Status.FAILED, "not 'other', on 10.0.0.2", f"{variable}=other on 10.0.0.2")


class TestHardStop:
    """How long a stream survives a reload of HAProxy."""

    @pytest.mark.parametrize(
        ("environment", "text"),
        [
            (
                {HARD_STOP: None},
                "streams are cut 120 s after any replica of the cluster comes or goes; Ray's default is",
            ),
            (
                {HARD_STOP: "60"},
                "streams are cut 60 s after any replica of the cluster comes or goes; Ray's default is",
            ),
            ({HARD_STOP: "600"}, f"cut 600 s .* would let one be silent for 3600 s ({SERVER_TIMEOUT})"),
            ({HARD_STOP: "3600", SERVER_TIMEOUT: "7200"}, f"cut 3600 s .* silent for 7200 s ({SERVER_TIMEOUT})"),
        ],
    )
    def test_a_short_one_is_a_warning(self, environment: dict[str, str | None], text: str) -> None:
        """On whichever node it is shortest."""
        finding = check_hard_stop(facts(nodes=nodes(worker=node_view(environment=environment))))
        assert finding.status is Status.WARNING
        for part in text.split(" .* "):
            assert part in finding.text
        assert f"Set {HARD_STOP} above your longest stream" in finding.remedy


class TestPorts:
    """Clients' and HAProxy's."""

    def test_a_url_where_nobody_listens(self) -> None:
        """Serve's own port is named beside it."""
        finding = check_ports(facts(url_error="Connection refused"))
        text = "no one accepts connections at http://10.0.0.1:8000: Connection refused"
        assert_says(finding, Status.FAILED, text, "Correct --url; Serve's port is 8000.")
        assert_says(
            check_ports(facts(url_error="refused", serve=Missing("x"))), Status.FAILED, "refused", "Correct --url."
        )

    def test_a_node_without_haproxy_is_named(self) -> None:
        """Only where Serve wants a proxy."""
        closed = node_view(ports=haproxy_ports(accepts=False, http=8000, stats=9404))
        finding = check_ports(facts(nodes=nodes(worker=closed)))
        assert_says(finding, Status.FAILED, "on 10.0.0.2 no one listens on 8000 (http), 9404 (stats)", "see the logs")
        head_only = serve(proxies={"h": {"status": "HEALTHY"}, "w": {"status": "DRAINING"}})
        finding = check_ports(facts(nodes=nodes(worker=closed), serve=head_only))
        assert_says(finding, Status.OK, "HAProxy listens on 1 node: http 8000")

    def test_an_unhealthy_proxy_is_named(self) -> None:
        """Even if it listens."""
        sick = serve(proxies={"h": {"status": "HEALTHY"}, "w": {"status": "UNHEALTHY"}})
        finding = check_ports(facts(serve=sick))
        assert_says(finding, Status.FAILED, "Serve calls the proxy on 10.0.0.2 UNHEALTHY", "see the logs")

    def test_without_serve_there_is_no_proxy_to_look_for(self) -> None:
        """It starts with the first application."""
        finding = check_ports(facts(serve=ServeDetails()))
        assert_says(finding, Status.SKIPPED, "waits for: application")

    def test_no_replica_port_is_no_fault(self) -> None:
        """It is for information."""
        quiet = node_view(replica_ports=[])
        assert_says(check_ports(facts(nodes=nodes(quiet, quiet))), Status.OK, "replica ports in use: none")


class TestReplicas:
    """Their number, ranks and fame."""

    def test_too_few_are_counted(self) -> None:
        """Against Serve's own target."""
        finding = check_replicas(facts(serve=with_deployments(server=deployment("a", wanted=3))))
        assert_says(finding, Status.FAILED, "1 of 3 replicas run", "`ray status`")

    def test_starting_ones_do_not_run(self) -> None:
        """Only Serve's RUNNING counts."""
        starting = deployment("a", "b", wanted=2, state="STARTING")
        assert_says(check_replicas(facts(serve=with_deployments(server=starting))), Status.FAILED, "0 of 2", "Wait")

    def test_an_unknown_replica_is_named_with_the_router(self) -> None:
        """One that published no facts, for example."""
        three = with_deployments(server=deployment("a", "b", "c", wanted=3))
        finding = check_replicas(facts(serve=three))
        assert_says(finding, Status.FAILED, "router r1 does not know replica c", "the router says what it lacks")

    @pytest.mark.parametrize(("rank", "ranks"), [(0, "0, 0"), (2, "0, 2")])
    def test_ranks_must_be_complete_and_different(self, rank: int, ranks: str) -> None:
        """They are the replicas' places on the ring."""
        finding = check_replicas(facts(routers=answers(router("r1", {"b": replica_snapshot(rank)}))))
        assert_says(finding, Status.FAILED, f"router r1 sees the ranks {ranks}, not 0 to 1", "restart the application")

    def test_a_replica_that_leaves_does_not_count(self) -> None:
        """A router may know it a moment longer."""
        leaving = answers(router("r1", {"gone": replica_snapshot(2)}))
        assert_says(check_replicas(facts(routers=leaving)), Status.OK, "ranks 0 to 1")
        one = with_deployments(server=deployment("a", wanted=1))
        assert_says(check_replicas(facts(serve=one)), Status.OK, "1 of 1 run, rank 0")

    def test_another_application_has_no_replicas_of_ours(self) -> None:
        """Nothing to judge."""
        assert_says(check_replicas(facts(serve=serve(application(deployments={})))), Status.SKIPPED, "application")
        assert_says(check_replicas(facts(routers=RouterAnswers([]))), Status.SKIPPED, "waits for: routers")


class TestRouters:
    """Their number and agreement."""

    def test_silence_is_a_failure(self) -> None:
        """Of all of them, or of some."""
        finding = check_routers(facts(routers=Missing("no router answers (TimeoutError)")))
        assert_says(finding, Status.FAILED, "no router answers (TimeoutError)", "see the logs")
        some = RouterAnswers([router("r1"), router("r2"), router("r3")], errors=["TimeoutError"])
        finding = check_routers(facts(routers=some))
        assert_says(finding, Status.FAILED, "1 of 4 routers gave no answer: TimeoutError", "see the logs")

    def test_too_few_are_counted(self) -> None:
        """Against the head's variable and the nodes that have a proxy."""
        finding = check_routers(facts(serve=with_deployments(routers=deployment("r1", "r2", wanted=4))))
        text = "2 routers run, not 2 on each of 2 nodes with a proxy"
        assert_says(finding, Status.FAILED, text, "Serve starts and stops routers by itself")

    def test_one_per_node_is_a_warning(self) -> None:
        """As Ray does by default: when it dies there is a gap."""
        unset = node_view(environment={ROUTERS_PER_NODE: None})
        two = RouterAnswers([router("r1"), router("r2")])
        known = facts(
            serve=with_deployments(routers=deployment("r1", "r2", wanted=2)), nodes=nodes(head=unset), routers=two
        )
        text = "1 router on each node with a proxy: when it dies, requests fail"
        assert_says(check_routers(known), Status.WARNING, text, f"Set {ROUTERS_PER_NODE}=2 on the head")

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            ({"policy": "round_robin"}, "the routers differ in policy: round_robin in r1, prefix_affinity in r2"),
            ({"block_size": 64}, "the routers differ in block size: 64 in r1, 32 in r2"),
            ({"block_size": None}, "the routers differ in block size: unknown in r1, 32 in r2"),
        ],
    )
    def test_a_router_that_differs_is_named(self, change: dict[str, Any], text: str) -> None:
        """With what each has."""
        finding = check_routers(facts(routers=answers(router("r1", **change))))
        assert_says(finding, Status.FAILED, text, "deploy again")

    def test_refused_messages_tell_of_two_versions(self) -> None:
        """With the router's own reason."""
        finding = check_routers(facts(routers=answers(router("r1", refused={"protocol 2, not 1": 12}))))
        assert_says(
            finding,
            Status.FAILED,
            "router r1 refused 12 messages since it started: protocol 2, not 1",
            "finish the upgrade",
        )

    def test_a_router_without_replicas_has_no_block_size(self) -> None:
        """The replicas' check says what is wrong; this one is not."""
        none = [router(f"r{number}", block_size=None) for number in range(1, 5)]
        assert_says(check_routers(facts(routers=answers(*none))), Status.OK, "policy prefix_affinity")


class TestRequest:
    """One request through the client's URL."""

    def test_any_routed_answer_will_do(self) -> None:
        """Not every model completes prompts."""
        finding = check_request(facts(answer=answer(status=404, replica=None, reason=None)))
        assert_says(finding, Status.OK, "routed, answered 404 in 123 ms")

    def test_full_headers_say_where_to_and_why(self) -> None:
        """Brief ones only that it was routed."""
        assert_says(check_request(facts(answer=answer())), Status.OK, "routed to a (ring), answered 200 in 123 ms")
        brief = answer(replica=None, reason=None)
        assert_says(check_request(facts(answer=brief)), Status.OK, "routed, answered 200 in 123 ms")

    @pytest.mark.parametrize("reason", ["unrouted", None], ids=["full", "brief"])
    def test_an_unrouted_answer_is_a_failure(self, reason: str | None) -> None:
        """It came, but nobody chose who gives it."""
        unrouted = answer(reason=reason, request_id=None)
        finding = check_request(facts(answer=unrouted))
        text = "answered 200, but no router chose the replica (no x-warmroute-request-id)"
        assert_says(finding, Status.FAILED, text, "HAProxy asked no router, or got no good answer")
        assert_says(check_receipts(facts(answer=unrouted)), Status.SKIPPED, "waits for: request")

    @pytest.mark.parametrize(("mode", "status"), [("off", Status.WARNING), ("brief", Status.FAILED)])
    def test_where_headers_are_off_nothing_can_be_said(self, mode: str, status: Status) -> None:
        """So that it is no failure."""
        deployed = serve(application(deployed_app_config={"args": {"replicas": {"explain_headers": mode}}}))
        unsaid = answer(replica=None, reason=None, request_id=None)
        finding = check_request(facts(serve=deployed, answer=unsaid))
        assert finding.status is status
        assert ("replicas.explain_headers is off" in finding.text) is (mode == "off")

    def test_an_error_or_no_answer_is_quoted(self) -> None:
        """With where to look."""
        finding = check_request(facts(answer=answer(status=503, reason=None, excerpt="Ingress request router failed")))
        text = "http://10.0.0.1:8000 answers 503: Ingress request router failed"
        assert_says(finding, Status.FAILED, text, "on environment, ports and routers")
        finding = check_request(facts(answer=Missing("ReadTimeout")))
        assert_says(finding, Status.FAILED, "http://10.0.0.1:8000 gives no answer: ReadTimeout", "see the logs")

    def test_it_waits_for_a_port(self) -> None:
        """Where that is what is lacking."""
        assert_says(check_request(facts(answer=None, url_error="refused")), Status.SKIPPED, "waits for: ports")


class TestReceipts:
    """The replicas' word to the routers."""

    @pytest.mark.parametrize(
        ("heard_s_ago", "text"),
        [
            (None, "router r1 never heard of replica b"),
            (12.04, "router r1 has not heard of replica b for 12.0 s"),
        ],
    )
    def test_a_silent_replica_is_named(self, heard_s_ago: float | None, text: str) -> None:
        """With the router that misses it."""
        quiet = answers(router("r1", {"b": replica_snapshot(1, heard_s_ago=heard_s_ago)}))
        assert_says(check_receipts(facts(routers=quiet)), Status.FAILED, text, "Its receipts do not arrive")

    def test_a_request_that_never_ends_is_counted(self) -> None:
        """Where nothing else was under way before, and the engine has nothing."""
        lost = [Unsettled("r1", full_id("b"), before=0, after=1, in_engine=0)]
        finding = check_receipts(facts(routers=answers(unsettled=lost)))
        text = "router r1 still counts 1 sequence at replica b, whose engine reports none"
        assert_says(finding, Status.FAILED, text, "next heartbeat should have corrected that")

    @pytest.mark.parametrize(("before", "in_engine"), [(2, 0), (0, 3)])
    def test_in_traffic_it_is_only_a_warning(self, before: int, in_engine: int) -> None:
        """Ours cannot be told from the others'."""
        busy = [Unsettled("r1", full_id("b"), before=before, after=3, in_engine=in_engine)]
        finding = check_receipts(facts(routers=answers(unsettled=busy)))
        text = f"router r1 counts 3 sequences at replica b, {before} before ours: more traffic, or lost receipts"
        assert_says(finding, Status.WARNING, text, "again when there is less traffic")

    def test_routers_without_replicas_have_nothing_to_hear(self) -> None:
        """The replicas' check says why."""
        none = [msgspec.structs.replace(router(f"r{number}"), replicas={}) for number in range(1, 5)]
        assert_says(check_receipts(facts(routers=answers(*none))), Status.SKIPPED, "waits for: replicas")


def test_an_excluded_replica_is_named_with_the_reason() -> None:
    """In each router that leaves it out."""
    silent = {"b": replica_snapshot(1, excluded="silent")}
    finding = check_exclusions(facts(routers=answers(router("r1", silent), router("r2", silent))))
    assert_says(finding, Status.FAILED, "router r1 sends nothing to replica b: silent; router r2 sends", "see the logs")


@pytest.mark.parametrize("verdict", [verdict for verdict in Verdict if verdict.is_broken])
def test_a_replica_without_key_parity_is_named_with_the_remedy(verdict: Verdict) -> None:
    """For each router that found it so."""
    broken = {"b": replica_snapshot(1, parity=verdict)}
    finding = check_parity(facts(routers=answers(router("r1", broken), router("r2", broken))))
    text = f"router r1: key parity of replica b (rank 1) is {verdict}; router r2: key parity"
    assert_says(finding, Status.FAILED, text, REMEDY[verdict])


def test_a_replica_whose_key_parity_is_unknown_is_only_warned_of() -> None:
    """It may have started a moment ago."""
    finding = check_parity(facts(routers=answers(router("r1", {"b": replica_snapshot(1, parity=Verdict.UNKNOWN)}))))
    assert_says(finding, Status.WARNING, "key parity of replica b (rank 1) is unknown", REMEDY[Verdict.UNKNOWN])


def tiered(rank: int = 1, **engine: int) -> ReplicaSnapshot:
    """A replica with a second tier ten times as large as its cache."""
    numbers = EngineSnapshot(**{"prompt_tokens": 12_000, **engine})
    return replica_snapshot(rank, kv_capacity_tokens=1000, host_capacity_tokens=10_000, engine=numbers)


def test_a_slow_tokenizer_is_warned_of() -> None:
    """With the reason, wherever it is; unless it is set so."""
    assert_says(check_tokenizer(facts()), Status.OK, "fastokens")
    slow = "huggingface: it gave other ids for sample 7"
    finding = check_tokenizer(facts(routers=answers(router("r1", {"b": replica_snapshot(1, tokenizer=slow)}))))
    assert_says(finding, Status.WARNING, f"replica b uses {slow}", "set tokenizer to huggingface")
    finding = check_tokenizer(facts(routers=answers(router("r1", prompts=ReaderSnapshot(tokenizer=slow)))))
    assert_says(finding, Status.WARNING, f"router r1 uses {slow}")
    set_so = ReaderSnapshot(tokenizer="huggingface: set so")
    finding = check_tokenizer(facts(routers=answers(router("r1", prompts=set_so), router("r2", prompts=None))))
    assert_says(finding, Status.OK, "fastokens and huggingface")


def test_a_second_tier_that_never_gave_anything_back_is_warned_of() -> None:
    """After ten times what the cache holds was computed, and not before."""
    finding = check_tiers(facts(routers=answers(router("r1", {"b": tiered()}))))
    assert_says(
        finding,
        Status.WARNING,
        "nothing ever came back from the second tier of replica b",
        "docs/operate/second-tier.md",
    )
    for engine in ({"prompt_tokens": 10_000}, {"cached_tokens": 2000}):
        finding = check_tiers(facts(routers=answers(router("r1", {"b": tiered(**engine)}))))
        assert (finding.status, finding.text) == (Status.OK, "1 replica with a second one; something came back from 0")


def test_a_second_tier_that_gave_something_back_is_well() -> None:
    """Whatever was computed."""
    both = {"a": tiered(0), "b": tiered(external_cached_tokens=32)}
    only = {"b": tiered(external_cached_tokens=32)}
    assert check_tiers(facts(routers=answers(router("r1", both)))).status is Status.WARNING
    finding = check_tiers(facts(routers=answers(router("r1", only))))
    assert (finding.status, finding.text) == (Status.OK, "1 replica with a second one; something came back from 1")
