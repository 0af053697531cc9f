"""A request's line in the replica's log, as JSON, with the trace that its client began."""

import json

import httpx

from serve_app.control.serve_config import ROUTER_DEPLOYMENT
from serve_app.local.cluster import LocalRun
from serve_app.messages.response_headers import UNROUTED
from tests.e2e.request_lines import logs, wait_for_line

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PHRASE = "the pass phrase of the mountain hut is edelweiss"


def test_a_request_has_a_line_with_its_trace(run: LocalRun, client: httpx.Client) -> None:
    """What was decided and what came of it, as the response says, and none of its text."""
    body = {"model": run.model, "prompt": f"{PHRASE}. " * 40, "max_tokens": 2}
    headers = {"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01", "authorization": "Bearer sk-edelweiss"}
    response = client.post("/v1/completions", json=body, headers=headers).raise_for_status()
    usage = response.json()["usage"]
    line = wait_for_line(run, TRACE_ID)
    assert line["message"] == "request"
    assert line["warmroute_request_id"] == response.headers["x-warmroute-request-id"]
    assert (line["method"], line["route"]) == ("POST", "/v1/completions")
    assert (line["status"], line["policy"]) == (200, response.headers["x-warmroute-policy"])
    assert line["reason"] == response.headers["x-warmroute-reason"]
    assert line["prompt_tokens"] == line["routed_prompt_tokens"] == usage["prompt_tokens"]
    assert line["cached_tokens"] == usage["prompt_tokens_details"]["cached_tokens"]
    assert line["answer_tokens"] == usage["completion_tokens"]
    assert 0 < line["ttft_s"] <= line["duration_s"]
    for path in logs(run).iterdir():
        assert "edelweiss" not in path.read_text(errors="replace"), path


def test_serve_adds_no_line_of_its_own(run: LocalRun, client: httpx.Client) -> None:
    """Nor is one missing where no router is asked; and the routers' logs are JSON as well."""
    trace_id = TRACE_ID[::-1]
    client.get("/v1/models", headers={"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}).raise_for_status()
    line = wait_for_line(run, trace_id)
    assert (line["method"], line["route"], line["reason"]) == ("GET", "/v1/models", UNROUTED)
    texts = [path.read_text() for path in logs(run).glob("replica_*.log")]
    assert sum(text.count(line["request_id"]) for text in texts) == 1
    routers = [path.read_text() for path in logs(run).glob(f"replica_*{ROUTER_DEPLOYMENT}*.log")]
    assert routers, "no router has a log"
    assert all(json.loads(each)["message"] for text in routers for each in text.splitlines())
