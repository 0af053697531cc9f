"""Dashboard and alert rules: of metrics that exist, read by Prometheus's own tool, and firing when they should."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from serve_app.telemetry.alerts import ROUTER_FAILURES, ROUTER_REQUESTS, alerts, rules
from serve_app.telemetry.dashboard import dashboard, panels
from serve_app.telemetry.metrics import DECISIONS, KEY_PARITY, METRICS, PROMPT_TOKENS
from serve_app.telemetry.queries import hit_rate, latest, rate
from tests.conftest import Require
from warmroute import cli

EXPORTED = {each.exported for each in METRICS}
OF_RAY = {each.exported for each in (ROUTER_FAILURES, ROUTER_REQUESTS)}
TOOL = "promtool"


@pytest.fixture(scope="module")
def promtool(require: Require) -> str:
    """Prometheus's own."""
    path = shutil.which(TOOL)
    require(path is not None, f"{TOOL}: install Debian's package prometheus")
    assert path is not None
    return path


def test_queries_name_only_what_there_is() -> None:
    """A label that the metric has not, or a rate of a gauge, is refused."""
    assert rate(DECISIONS, window="5m", by=("reason",), policy="!=random") == (
        'sum by (application, reason) (rate(ray_warmroute_decisions_total{policy!="random"}[5m]))'
    )
    assert latest(KEY_PARITY, by=("rank",), verdict="!~ok|unknown") == (
        'max by (application, rank) (ray_warmroute_key_parity{verdict!~"ok|unknown"})'
    )
    with pytest.raises(ValueError, match="warmroute_decisions has no label rank: it has policy, reason"):
        rate(DECISIONS, window="5m", by=("rank",))
    with pytest.raises(ValueError, match="warmroute_prompt_tokens has no label cause"):
        rate(PROMPT_TOKENS, window="5m", cause="=new")
    with pytest.raises(ValueError, match="warmroute_key_parity is a gauge"):
        rate(KEY_PARITY, window="5m")
    with pytest.raises(ValueError, match="warmroute_decisions is a counter"):
        latest(DECISIONS)


def test_every_metric_in_a_query_is_defined_and_every_defined_one_is_shown() -> None:
    """In dashboard or alerts; those of a shadow's failures and agreements, and sampled keys, speak for themselves."""
    queries = [query for panel in panels() for query in panel.legend_to_query.values()]
    queries += [each.expression for each in alerts()]
    named = {name for query in queries for name in re.findall(r"ray_\w+", query)}
    assert named - EXPORTED == OF_RAY
    left_out = {"sampled_keys", "shadow_decisions", "shadow_agreements", "shadow_failures"}
    assert EXPORTED - named == {f"ray_warmroute_{name}_total" for name in left_out}


def test_the_dashboard_is_printed_as_grafana_reads_it() -> None:
    """Panels side by side, no two in one place."""
    result = CliRunner().invoke(cli.app, ["grafana"])
    assert result.exit_code == 0
    content = json.loads(result.output)
    assert content == dashboard()
    places = [(each["gridPos"]["x"], each["gridPos"]["y"]) for each in content["panels"]]
    assert len(set(places)) == len(places) == len(panels())
    assert {x for x, _ in places} == {0, 12}


def test_promtool_reads_rules_and_queries(promtool: str, tmp_path: Path) -> None:
    """The file that is printed, and each of the dashboard's queries as a rule."""
    result = CliRunner().invoke(cli.app, ["alerts"])
    assert result.exit_code == 0
    (tmp_path / "alerts.yaml").write_text(result.output)
    assert yaml.safe_load(result.output) == rules()
    recorded = [
        {"record": f"panel:{number}", "expr": query}
        for number, query in enumerate(query for panel in panels() for query in panel.legend_to_query.values())
    ]
    (tmp_path / "queries.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    checked = subprocess.run(
        [promtool, "check", "rules", "alerts.yaml", "queries.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(alerts())} rules found" in checked.stdout
    assert f"{len(recorded)} rules found" in checked.stdout


def series(name: str, values: str, **labels: str) -> dict[str, str]:
    """Of one metric, a value each minute, in promtool's own notation; each router has its own."""
    selector = ", ".join(
        f'{key}="{value}"' for key, value in {"application": "chat", "WorkerId": "router", **labels}.items()
    )
    return {"series": f"{name}{{{selector}}}", "values": values}


WELL = [
    series("ray_warmroute_prompt_tokens_total", "0+60000x2000", stage="offered", rank="0"),
    series("ray_warmroute_prompt_tokens_total", "0+30000x2000", stage="reused", rank="0"),
    series("ray_warmroute_decisions_total", "0+60x2000", policy="prefix_affinity", reason="prefix"),
    series("ray_warmroute_prompts_total", "0+60x2000", rank="0"),
    series("ray_serve_haproxy_ingress_router_requests_total", "0+60x2000"),
    series("ray_serve_haproxy_ingress_router_failures_total", "0+6x2000", reason="unknown_replica_id"),
    *(series("ray_warmroute_pending_tokens", "25000x2000", rank=str(rank)) for rank in range(4)),
    *(series("ray_warmroute_excluded", "0x2000", rank=str(rank)) for rank in range(4)),
    series("ray_warmroute_key_parity", "1x2000", rank="0", verdict="ok"),
    series("ray_warmroute_cache_knowledge", "1x2000", rank="0", source="receipts"),
]
"""An hour, and what is usual."""

ALERT_TO_CAUSE = {
    "WarmrouteHitRateDrop": [
        series("ray_warmroute_prompt_tokens_total", "0+60000x2000", stage="offered", rank="0"),
        series("ray_warmroute_prompt_tokens_total", "0+30000x1900 57000000+3000x100", stage="reused", rank="0"),
    ],
    "WarmrouteKeysBroken": [series("ray_warmroute_key_parity", "1x2000", rank="2", verdict="template")],
    "WarmrouteReplicaHot": [series("ray_warmroute_pending_tokens", "900000x2000", rank="3")],
    "WarmrouteReplicaExcluded": [series("ray_warmroute_excluded", "1x2000", rank="1")],
    "WarmrouteReceiptsLost": [series("ray_warmroute_prompts_total", "0+45x2000", rank="0")],
    "WarmrouteRoutersApart": [series("ray_warmroute_undelivered_reservations_total", "0+1x2000")],
    "WarmrouteFallback": [
        series("ray_warmroute_decisions_total", "0+2x2000", policy="prefix_affinity", reason="no_replicas")
    ],
    "WarmrouteRoutersFail": [
        series("ray_serve_haproxy_ingress_router_failures_total", "0+6x2000", reason="router_timeout"),
    ],
    "WarmrouteKvEventsLost": [series("ray_warmroute_cache_knowledge", "1x2000", rank="1", source="kv_events")],
}


def test_every_alert_has_a_cause_here() -> None:
    """Or nothing would show that it can fire."""
    assert {each.name for each in alerts()} == ALERT_TO_CAUSE.keys()


@pytest.mark.parametrize("name", [None, *ALERT_TO_CAUSE])
def test_an_alert_fires_for_its_cause_and_no_other_does(promtool: str, tmp_path: Path, name: str | None) -> None:
    """By promtool's unit tests, after more than a day; when all is well, none does."""
    causes = [] if name is None else ALERT_TO_CAUSE[name]
    changed = {each["series"] for each in causes}
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(rules()))
    unit_test = {
        "rule_files": ["alerts.yaml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [each for each in WELL if each["series"] not in changed] + causes,
                "promql_expr_test": [
                    {
                        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                        "eval_time": "1960m",
                        "exp_samples": [] if name is None else [{"labels": f'{{alertname="{name}"}}', "value": 1}],
                    }
                ],
            }
        ],
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(unit_test))
    result = subprocess.run(
        [promtool, "test", "rules", "test.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_hit_rate_is_a_ratio_of_sums() -> None:
    """Not a mean of rates."""
    assert hit_rate(window="1h") == (
        'sum by (application) (rate(ray_warmroute_prompt_tokens_total{stage="reused"}[1h])) / '
        'sum by (application) (rate(ray_warmroute_prompt_tokens_total{stage="offered"}[1h]))'
    )


def test_alerts_say_what_to_do() -> None:
    """In every rule."""
    for each in rules()["groups"][0]["rules"]:
        fields: dict[str, Any] = each["annotations"]
        assert fields["summary"]
        assert fields["description"].endswith(".")
