"""What is measured, added up, sent to a master, and judged."""

import json

import pytest

from loadtests.client.answers import Outcome
from loadtests.locust_kit.result import as_json, lines
from loadtests.locust_kit.slo import Slo, faults
from loadtests.locust_kit.totals import Totals
from tests.loadtests.locust_kit.builders import exchange, options, totals

SHED = exchange(outcome=Outcome.REFUSED, status=429, retry_after="1")
FAILED = exchange(outcome=Outcome.REFUSED, status=500)
CUT = exchange(outcome=Outcome.CUT)
WARM = exchange(cached_tokens=80, first_byte_s=0.02)
MIXED = (exchange(), WARM, exchange(kind="rag", prompt_tokens=300), SHED, FAILED, CUT)


@pytest.mark.parametrize(("cached_tokens", "row"), [(0, "TTFT cold"), (49, "TTFT cold"), (50, "TTFT warm")])
def test_warm_is_at_least_half_of_the_prompt(cached_tokens: int, row: str) -> None:
    """Of 100 tokens."""
    assert totals(exchange(cached_tokens=cached_tokens)).row_to_times_s == {
        "chat": [0.5],
        row: [0.1],
        "inter-token time": [0.1],
    }


def test_one_token_has_no_time_between_tokens() -> None:
    """Nor has an answer that says nothing of its length."""
    assert exchange(answer_tokens=1).inter_token_s is None
    assert exchange(answer_tokens=0).inter_token_s is None


def test_the_hit_rate_is_a_ratio_of_sums() -> None:
    """80 of 500 tokens, not the mean of 0, 0.8 and 0; what was shed is no error."""
    added = totals(*MIXED)
    assert added.hit_rate == 0.16
    assert (added.num_requests, added.num_complete, added.num_shed) == (6, 3, 1)
    assert added.failure_to_count == {"500": 1, "cut": 1}
    assert added.error_share == 1 / 3


def test_totals_of_workers_add_up_to_those_of_one_process() -> None:
    """Sent as JSON's types, as Locust sends them."""
    master = Totals()
    for exchanges in (MIXED[:2], MIXED[2:], ()):
        message = json.loads(json.dumps(totals(*exchanges).as_message()))
        master.merge(Totals.from_message(message))
    assert master == totals(*MIXED)


def test_a_slo_is_met_missed_or_not_shown() -> None:
    """Each with the row, the percentile, the value and the limit."""
    measured = totals(*(exchange(first_byte_s=ms / 1000) for ms in range(101)))
    assert Slo("TTFT cold", 95, 96).fault(measured) is None
    assert Slo("TTFT cold", 95, 94).fault(measured) == (
        "TTFT cold: p95 is 95.0 ms of 101 requests, p95 at most 94 ms was wanted"
    )
    assert Slo("TTFT warm", 95, 95).fault(measured) == "TTFT warm: no sample, p95 at most 95 ms was wanted"


def test_errors_are_judged_by_their_share() -> None:
    """Two of six."""
    measured = totals(*MIXED)
    assert faults(measured, (), max_error_share=0.34) == []
    assert faults(measured, (), max_error_share=0) == [
        "errors: 33.33% of the requests (500: 1, cut: 1), at most 0.00% was wanted"
    ]


def test_a_run_without_an_answer_has_failed() -> None:
    """And says which process could not send, and why."""
    assert faults(Totals(problems={"no server"}), (), max_error_share=0) == ["no server", "no request was answered"]
    assert faults(totals(SHED), (), max_error_share=0) == ["no request was answered"]


def test_figures_of_a_simulated_engine_say_so() -> None:
    """In the lines and in the report; those of a real one need not."""
    assert "engine" not in next(lines(totals(exchange()), options(), []))
    simulated = totals(exchange(engine="simulated"))
    assert next(lines(simulated, options(), [])) == "Warmroute: mix, seed 1, engine: simulated"
    assert as_json(simulated, options(), [])["engine"] == "simulated"
    assert as_json(totals(exchange(), exchange(engine="simulated")), options(), [])["engine"] == "real, simulated"


def test_the_last_lines_give_the_verdict() -> None:
    """And a hint where no server reported a cached token."""
    shown = list(lines(totals(exchange()), options("--cold-ttft-slo-ms", "9"), ["TTFT cold: too slow"]))
    assert shown[-1] == "FAIL: TTFT cold: too slow"
    assert "enable_prompt_tokens_details" in shown[-2]
    assert list(lines(totals(exchange(cached_tokens=9)), options("--cold-ttft-slo-ms", "900"), []))[-1] == "PASS"
