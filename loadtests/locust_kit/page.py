"""A tab of Locust's page with what its own rows do not say: hit rate, tokens, and which SLO is missed so far."""

import json

from flask import Response, request
from locust.web import WebUI

from loadtests.locust_kit import result
from loadtests.locust_kit.load_run import LoadRun

KEY = "prompt-cache"
STATS_PATH = "/stats/requests"


def add_tab(web_ui: WebUI, run: LoadRun) -> None:
    """Add a tab as Locust's example does: the table's rows come with the page's own statistics."""
    assert web_ui.app is not None
    columns = [{"key": "name", "title": "Name"}, {"key": "value", "title": "Value"}]
    web_ui.template_args["extended_tabs"] = [{"title": "Prompt cache", "key": KEY}]
    web_ui.template_args["extended_tables"] = [{"key": KEY, "structure": columns}]

    def add_rows(response: Response) -> Response:
        if request.path.endswith(STATS_PATH) and isinstance(response.json, dict):
            table = {"key": KEY, "data": [{"name": name, "value": value} for name, value in _rows(run)]}
            response.set_data(json.dumps(response.json | {"extended_stats": [table]}))
        return response

    web_ui.app.after_request(add_rows)


def _rows(run: LoadRun) -> list[tuple[str, str]]:
    """The engine where it is known, and faults once there is something to judge."""
    engine = [("engine", run.totals.engine)] if run.totals.engines else []
    missed = [("FAIL", fault) for fault in run.faults()] if run.totals.num_requests else []
    return [*engine, *result.rows(run.totals), *missed]
