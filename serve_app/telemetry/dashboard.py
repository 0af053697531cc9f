"""The Grafana dashboard."""

from dataclasses import dataclass
from typing import Any

from serve_app.telemetry.metrics import (
    APPLICATION,
    CACHE_KNOWLEDGE,
    DECISIONS,
    EXCLUDED,
    KEY_PARITY,
    KV_USE,
    LOST_TOKENS,
    PENDING_TOKENS,
    PROMPT_TOKENS,
    PROMPTS,
    SHADOWS,
    TOKENIZER,
    UNREADABLE,
    Metric,
)
from serve_app.telemetry.queries import hit_rate, latest, rate

TITLE = "Warmroute"
UID = "warmroute"
SCHEMA_VERSION = 39
"""The version of Grafana 10, which later ones read."""
WINDOW = "5m"
CHOSEN = {APPLICATION: f"=~${APPLICATION}"}
"""The applications that are chosen at the top of the dashboard."""
WIDTH, HEIGHT, COLUMNS = 12, 8, 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
SHARE, NUMBER, TOKENS_PER_S, PER_S = "percentunit", "short", "tok/s", "reqps"


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot."""

    title: str
    description: str
    unit: str
    legend_to_query: dict[str, str]
    """Each legend and its query; legends may contain labels, such as `{{rank}}`."""
    is_stacked: bool = False


def panels() -> tuple[Panel, ...]:
    """All plots, row by row, with two in each row."""
    by_rank = ("rank",)
    return (
        Panel(
            "Hit rate",
            "Share of the offered prompt tokens: cached on any replica, estimated to be cached on the chosen one, and "
            "reused by its engine.",
            SHARE,
            {stage: _hit_rate(stage=stage) for stage in ("reachable", "selected", "reused")},
        ),
        Panel(
            "Lost tokens by cause",
            "Prompt tokens a second that were computed, by the reason why they were not reused.",
            TOKENS_PER_S,
            {"{{cause}}": _rate(LOST_TOKENS, by=("cause",))},
            is_stacked=True,
        ),
        Panel(
            "Hit rate by replica",
            "As the replicas' engines report it.",
            SHARE,
            {"replica {{rank}}": _hit_rate(by=by_rank)},
        ),
        Panel(
            "Hit rate by replica, predicted less actual",
            "Above zero, the routers expect more than the engines have cached.",
            SHARE,
            {"replica {{rank}}": f"({_hit_rate(stage='selected', by=by_rank)}) - ({_hit_rate(by=by_rank)})"},
        ),
        Panel(
            "Hit rate of shared prefixes",
            "Hit rate of prefixes that several prompts share, such as a system prompt; 70 % and more is healthy.",
            SHARE,
            {"replica {{rank}}": _hit_rate(stage="shared_reused", of="shared", by=by_rank)},
        ),
        Panel(
            "Prompt tokens to compute",
            "Prompt tokens of waiting and running requests that are still to compute, as the routers count them.",
            NUMBER,
            {"replica {{rank}}": _latest(PENDING_TOKENS, by=by_rank)},
        ),
        Panel(
            "KV cache in use by running requests",
            "The rest is free for cached prefixes.",
            SHARE,
            {"replica {{rank}}": _latest(KV_USE, by=by_rank)},
        ),
        Panel(
            "Prompts by replica",
            "Prompts a second that got their first token.",
            PER_S,
            {"replica {{rank}}": _rate(PROMPTS, by=by_rank)},
            is_stacked=True,
        ),
        Panel(
            "Prompt tokens",
            "Prompt tokens a second that clients offered, and those of them that were computed.",
            TOKENS_PER_S,
            {
                "offered": _rate(PROMPT_TOKENS, stage="=offered"),
                "computed": _rate(LOST_TOKENS),
            },
        ),
        Panel(
            "Decisions by reason",
            "Why a replica was chosen.",
            PER_S,
            {"{{reason}}": _rate(DECISIONS, by=("reason",))},
            is_stacked=True,
        ),
        Panel(
            "Prompts without a key",
            "Prompts that the routers could not read; they are placed by load.",
            PER_S,
            {"{{reason}}": _rate(UNREADABLE, by=("reason",))},
            is_stacked=True,
        ),
        Panel(
            "Replicas by state",
            "Replicas by their keys, by how their caches are known, by tokenizer, and those that are not eligible.",
            NUMBER,
            {
                "keys {{verdict}}": _sum_by("verdict", KEY_PARITY),
                "known by {{source}}": _sum_by("source", CACHE_KNOWLEDGE),
                "tokenised by {{tokenizer}}": _sum_by("tokenizer", TOKENIZER),
                "not eligible": f"sum by ({APPLICATION}) ({_latest(EXCLUDED, by=by_rank)})",
            },
        ),
        Panel(
            "Shadows against the live policy",
            "Prompt tokens a second that their choices would have spared, or cost more.",
            TOKENS_PER_S,
            {
                "{{shadow}} spares": _rate(SHADOWS["gain_tokens"], by=("shadow",)),
                "{{shadow}} costs": _rate(SHADOWS["regret_tokens"], by=("shadow",)),
            },
        ),
    )


def _rate(metric: Metric, *, by: tuple[str, ...] = (), **where: str) -> str:
    return rate(metric, window=WINDOW, by=by, **where, **CHOSEN)


def _hit_rate(*, stage: str = "reused", of: str = "offered", by: tuple[str, ...] = ()) -> str:
    return hit_rate(window=WINDOW, stage=stage, of=of, by=by, **CHOSEN)


def _latest(metric: Metric, *, by: tuple[str, ...]) -> str:
    return latest(metric, by=by, **CHOSEN)


def _sum_by(label: str, metric: Metric) -> str:
    """The sum of a gauge that has a value for each rank."""
    return f"sum by ({APPLICATION}, {label}) ({_latest(metric, by=('rank', label))})"


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    return {
        "title": TITLE,
        "uid": UID,
        "schemaVersion": SCHEMA_VERSION,
        "tags": ["warmroute", "ray", "llm"],
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "10s",
        "templating": {"list": [_datasource_choice(), _application_choice()]},
        "panels": [_panel(number, panel) for number, panel in enumerate(panels())],
    }


def _datasource_choice() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus"}


def _application_choice() -> dict[str, Any]:
    return {
        "name": APPLICATION,
        "type": "query",
        "datasource": DATASOURCE,
        "query": f"label_values({DECISIONS.exported}, {APPLICATION})",
        "includeAll": True,
        "multi": True,
        "refresh": 2,
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    per_row = COLUMNS // WIDTH
    custom = {"fillOpacity": 20, "stacking": {"mode": "normal"}} if panel.is_stacked else {"fillOpacity": 0}
    limits = {"min": 0} if panel.unit != SHARE else {}
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": {"h": HEIGHT, "w": WIDTH, "x": number % per_row * WIDTH, "y": number // per_row * HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "custom": custom, **limits}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": DATASOURCE,
                "expr": query,
                "legendFormat": f"{{{{{APPLICATION}}}}} {legend}",
            }
            for index, (legend, query) in enumerate(panel.legend_to_query.items())
        ],
    }
