"""A tab of Locust's page with what its own rows do not say: hit rate, tokens, and which SLO is missed so far."""

from flask import Response, jsonify
from locust.web import WebUI

from loadtests.locust_kit import result
from loadtests.locust_kit.load_run import LoadRun

KEY = "prompt-cache"


def add_tab(web_ui: WebUI, run: LoadRun) -> None:
    """As Locust's example of an extended page does it: the page asks for the table by the tab's key."""
    assert web_ui.app is not None
    web_ui.template_args["extended_tabs"] = [{"title": "Prompt cache", "key": KEY}]
    columns = [{"key": "name", "title": "Name"}, {"key": "value", "title": "Value"}]
    web_ui.template_args["extended_tables"] = [{"key": KEY, "structure": columns}]

    @web_ui.app.route(f"/{KEY}")
    def prompt_cache() -> Response:
        missed = [("missed", fault) for fault in run.faults()] if run.totals.num_requests else []
        engine = [("engine", run.totals.engine)] if run.totals.engines else []
        shown = [*engine, *result.rows(run.totals), *missed]
        return jsonify([{"name": name, "value": value, "safeName": name} for name, value in shown])
