"""The demo's workload, bounds, statistics and report."""

import json
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, ClassVar

import httpx
import pytest
import zstandard

from serve_app.demo import driver, report
from serve_app.demo.conversations import OWN_WORKLOAD, WorkloadError, load_conversations, load_tools
from serve_app.demo.driver import Measurement
from serve_app.demo.reuse import ReuseBound
from serve_app.demo.statistics import TokenTotals, paired_ttft_ratio, percentile

TALK = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "b"},
    {"role": "user", "content": "c"},
    {"role": "assistant", "content": "d"},
    {"role": "user", "content": "thanks"},
]


def measurement(
    conversation: str, turn: int, *, ttft_s: float = 1, prompt: int = 0, cached: int = 0, replica: str | None = "app#r"
) -> Measurement:
    """One answered request; conversations take turns."""
    return Measurement(conversation, turn, replica, turn + ord(conversation[0]) / 1000, ttft_s, prompt, cached)


class TestConversations:
    """Files of recorded conversations."""

    def test_each_answer_is_a_request_with_all_that_came_before(self, tmp_path: Path) -> None:
        """What the user says last, unanswered, is not asked."""
        path = tmp_path / "talks.jsonl"
        path.write_text(json.dumps({"messages": TALK}) + "\n\n")
        (conversation,) = load_conversations(path, tools=None, limit=None)
        assert [turn.messages for turn in conversation.turns] == [TALK[:2], TALK[:4]]
        assert "tools" not in conversation.turns[0].body("m", 8)

    def test_compressed_files_and_common_tools(self, tmp_path: Path) -> None:
        """As the public data sets come."""
        path = tmp_path / "talks.jsonl.zst"
        path.write_bytes(zstandard.compress((json.dumps({"messages": TALK, "tools": ["own"]}) + "\n").encode() * 3))
        conversations = load_conversations(path, tools=[{"type": "function"}], limit=2)
        assert len(conversations) == 2
        assert conversations[0].turns[0].body("m", 8)["tools"] == [{"type": "function"}]

    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("{broken", ":1 is not an object"),
            ("[]", ":1 is not an object"),
            ('{"messages": [{"content": "x"}]}', ":1 is not an object"),
            ('{"messages": [{"role": "user", "content": "x"}]}', ":1 has no answer by the assistant"),
            ("", "holds no conversation"),
        ],
    )
    def test_a_bad_line_is_named(self, tmp_path: Path, line: str, expected: str) -> None:
        """With its number."""
        path = tmp_path / "talks.jsonl"
        path.write_text(line)
        with pytest.raises(WorkloadError, match=expected):
            load_conversations(path, tools=None, limit=None)

    def test_unreadable_files_are_named(self, tmp_path: Path) -> None:
        """Absent, not compressed, not JSON."""
        (tmp_path / "not.zst").write_text("plain")
        with pytest.raises(WorkloadError, match=r"not.zst cannot be read"):
            load_conversations(tmp_path / "not.zst", tools=None, limit=None)
        with pytest.raises(WorkloadError, match="absent cannot be read"):
            load_tools(tmp_path / "absent")
        (tmp_path / "object.json").write_text("{}")
        with pytest.raises(WorkloadError, match="not a JSON array"):
            load_tools(tmp_path / "object.json")

    def test_the_own_workload_loads(self) -> None:
        """Several users, several turns each."""
        conversations = load_conversations(OWN_WORKLOAD, tools=None, limit=None)
        assert len(conversations) >= 8
        assert all(len(conversation.turns) >= 3 for conversation in conversations)


class TestReuseBound:
    """Blocks of 2 tokens; both users share the first block."""

    PROMPTS: ClassVar = {("a", 0): [1, 1, 2], ("a", 1): [1, 1, 2, 2, 3], ("b", 0): [1, 1, 9, 9, 9]}

    def test_sizes(self) -> None:
        """Blocks 11, 22 and 99 are the whole working set; only the first is common."""
        bound = ReuseBound(self.PROMPTS, block_size=2)
        assert (bound.common_tokens, bound.working_set_tokens) == (2, 6)

    def test_reuse_counts_only_beyond_the_common_prefix(self) -> None:
        """Turn 2 of `a` could reuse nothing more; a repeated prompt of `b` could reuse one block."""
        prompts = {**self.PROMPTS, ("b", 1): [1, 1, 9, 9, 9, 9]}
        bound = ReuseBound(prompts, block_size=2)
        run = [
            measurement("a", 0, prompt=3),
            measurement("a", 1, prompt=5, cached=2),
            measurement("b", 0, prompt=5, cached=2),
            measurement("b", 1, prompt=6, cached=4),
        ]
        reuse = bound.measure(run)
        assert (reuse.reusable_tokens, reuse.reused_tokens) == (2, 2)
        missed = bound.measure([*run[:3], measurement("b", 1, prompt=6, cached=2)])
        assert (missed.reusable_tokens, missed.reused_tokens, missed.share) == (2, 0, 0)


class TestStatistics:
    """Sums, percentiles, paired ratios."""

    def test_rates_are_ratios_of_sums(self) -> None:
        """Not means of ratios: 90 of 1,000 and 0 of 10."""
        totals = TokenTotals.of([measurement("a", 0, prompt=1000, cached=90), measurement("a", 1, prompt=10)])
        assert (totals.num_requests, totals.uncached_tokens) == (2, 920)
        assert totals.hit_rate == 90 / 1010

    @pytest.mark.parametrize(("percent", "expected"), [(50, 3), (95, 4.8), (1, 1.04)])
    def test_percentiles_interpolate(self, percent: int, expected: float) -> None:
        """Of 1 to 5."""
        assert percentile([1, 2, 3, 4, 5], percent) == pytest.approx(expected)
        assert percentile([7], percent) == 7

    def test_each_request_is_paired_with_itself(self) -> None:
        """Half the time for every request is a ratio of one half, whatever the requests' own sizes."""
        base = [[measurement(name, turn, ttft_s=turn + 1) for name in "abc" for turn in range(3)]]
        ours = [[measurement(name, turn, ttft_s=(turn + 1) / 2) for name in "cba" for turn in range(3)]]
        interval = paired_ttft_ratio(ours, base, Random(0))
        assert (interval.median, interval.low, interval.high) == (0.5, 0.5, 0.5)

    def test_the_interval_widens_with_disagreement(self) -> None:
        """Conversations that gain and conversations that lose leave the sign open."""
        base = [[measurement(name, turn) for name in "abcdef" for turn in range(3)]]
        ours = [[measurement(name, turn, ttft_s=0.5 if name < "d" else 2) for name in "abcdef" for turn in range(3)]]
        interval = paired_ttft_ratio(ours, base, Random(0))
        assert interval.low < 1 < interval.high


class TestReport:
    """What is printed."""

    @staticmethod
    def experiment(replica: str | None) -> Any:
        """One run of two requests, as far as reports read it."""
        reuse = SimpleNamespace(reused_tokens=5, reusable_tokens=10, share=0.5)
        bound = SimpleNamespace(working_set_tokens=100, common_tokens=10, measure=lambda _: reuse)
        runs = [[measurement("a", turn, prompt=100, cached=50, replica=replica) for turn in range(2)]]
        return SimpleNamespace(
            repetitions=1,
            concurrency=1,
            note="",
            policy_to_runs={"prefix_affinity": runs},
            bound=bound,
            application=SimpleNamespace(kv_capacity_tokens=lambda: 1000),
        )

    @staticmethod
    def rows(experiment: Any) -> list[str]:
        """The names in the table's second column."""
        return [str(cell) for cell in report.table(experiment).columns[1].cells]

    def test_replicas_have_rows_of_their_own(self) -> None:
        """And all together one."""
        experiment = self.experiment("app#r")
        assert self.rows(experiment) == ["r", "all"]
        assert not any("not available" in line for line in report.lines(experiment))

    def test_replicas_that_answers_do_not_name_are_told_to_be_missing(self) -> None:
        """With what to set."""
        experiment = self.experiment(None)
        assert self.rows(experiment) == ["all"]
        assert report.lines(experiment)[-1] == (
            "Figures of each replica: not available, as answers do not say which one gave them. "
            "Set replicas.explain_headers: full."
        )

    @pytest.mark.parametrize(("headers", "replica"), [({}, None), ({"x-warmroute-replica": "app#r"}, "app#r")])
    async def test_an_answer_counts_whether_or_not_it_names_its_replica(
        self, headers: dict[str, str], replica: str | None
    ) -> None:
        """By its usage."""
        events = b'data: {"usage": null}\n\ndata: {"usage": {"prompt_tokens": 10}}\n\n'
        transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, content=events))
        turn = load_conversations(OWN_WORKLOAD, tools=None, limit=1)[0].turns[0]
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            found = await driver._ask(client, turn, "demo", 1)
        assert (found.replica, found.prompt_tokens) == (replica, 10)
