"""An audit as JSON. There is no text of a prompt in it."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from serve_app.audit.audit import ApplicationSums, Audit, Cost
from serve_app.audit.cache_replay import Sums
from serve_app.audit.checklist import Item
from serve_app.audit.kind import DefectKind
from serve_app.audit.log_file import LogPlace
from serve_app.audit.suggested_layout import suggested_layout


def as_json(audit: Audit, kinds: Sequence[DefectKind], items: Sequence[Item]) -> dict[str, Any]:
    """The whole audit as JSON values."""
    kind_to_title = {kind.name: kind.title for kind in kinds}
    kind_to_remedy = {kind.name: kind.remedy for kind in kinds}
    return {
        "warmroute": version("warmroute"),
        "files": [str(path) for path in audit.files],
        "block_size": audit.block_size,
        "cache_tokens": audit.capacity_tokens,
        "as_is": _sums(audit.as_is),
        "normal_form": _sums(audit.normalised),
        "all_mended": _sums(audit.all_fixed),
        "not_read": {
            flaw.name.lower(): {"lines": count, "examples": [_place(each) for each in audit.flaws.flaw_to_places[flaw]]}
            for flaw, count in audit.flaws.flaw_to_count.items()
        },
        "model_tokens": audit.model_to_tokens,
        "applications": [_application(each) for each in audit.applications],
        "findings": [
            {
                "kind": finding.kind.value,
                "title": kind_to_title[finding.kind],
                "where": finding.where,
                "offset": finding.offset,
                "what": finding.what,
                "requests": finding.num_requests,
                "requests_in_group": finding.num_in_group,
                "example": _place(finding.example),
                "saved": _cost(audit.cost(finding)),
                "remedy": kind_to_remedy[finding.kind],
            }
            for finding in audit.findings
        ],
        "saved_by_kind": {kind.value: _cost(cost) for kind, cost in audit.kind_to_cost.items()},
        "shared_prefixes": [branch._asdict() for branch in audit.branches],
        "checklist": [{"item": item.text, "verdict": item.verdict.name.lower(), "why": item.why} for item in items],
    }


def _sums(sums: Sums) -> dict[str, float]:
    return {
        "requests": sums.num_requests,
        "prompt_tokens": sums.offered_tokens,
        "cached_tokens": sums.cached_tokens,
        "hit_rate": sums.hit_rate,
    }


def _place(place: LogPlace) -> dict[str, Any]:
    return {"file": str(place.file), "line": place.line, "offset": place.offset}


def _cost(cost: Cost | None) -> dict[str, Any] | None:
    return None if cost is None else {"tokens": cost.tokens, "dollars": cost.dollars}


def _application(sums: ApplicationSums) -> dict[str, Any]:
    application, divergence = sums.application, sums.divergence
    return {
        "first": _place(application.place),
        "requests": sums.num_requests,
        "prompt_tokens": sums.offered_tokens,
        "cached_tokens": sums.cached_tokens,
        "shared_tokens": application.shared_tokens,
        "diverges": None if divergence is None else divergence._asdict(),
        "suggested_layout": [part._asdict() for part in suggested_layout(application)],
    }
