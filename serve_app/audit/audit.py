"""Two readings of a log: one to learn from, one to replay."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from serve_app.audit.application import Application, ApplicationKey
from serve_app.audit.cache_replay import Branch, CacheReplay, Keys, Sums
from serve_app.audit.common_prefix import common_prefix
from serve_app.audit.kind import AuditFinding, DefectKind, Fix, KindName
from serve_app.audit.kinds import KINDS
from serve_app.audit.layout import all_texts, path_text, system_texts, tool_list
from serve_app.audit.learned import MIN_TOKENS, Learned, PlacedRequest
from serve_app.audit.log_file import Flaw, LogPlace, read_lines
from serve_app.audit.logged_request import FlawError, LoggedRequest, read_request
from serve_app.audit.normal_form import normal_form

MAX_FLAW_EXAMPLES = 5
MAX_APPLICATIONS = 50
"""Number of applications in a report: those with the most tokens."""
MAX_BRANCHES = 40
OnRead = Callable[[int], None]
OnFixed = Callable[[LoggedRequest, dict[str, Any]], None]


class TokenSource(Protocol):
    """What makes tokens of requests, as `TokenReader` does, which takes a while to import."""

    block_size: int

    async def token_ids(self, body: dict[str, Any]) -> Sequence[int] | None:
        """The token ids of a request; None if it would be refused."""

    async def keys(self, body: dict[str, Any]) -> Keys | None:
        """The keys of a request; None if it would be refused."""


@dataclass(slots=True)
class FoundFlaws:
    """Lines that were not read."""

    flaw_to_count: Counter[Flaw] = field(default_factory=Counter)
    flaw_to_places: dict[Flaw, list[LogPlace]] = field(default_factory=dict)

    def add(self, flaw: Flaw, place: LogPlace) -> None:
        """Count one more line."""
        self.flaw_to_count[flaw] += 1
        places = self.flaw_to_places.setdefault(flaw, [])
        if len(places) < MAX_FLAW_EXAMPLES:
            places.append(place)


class Divergence(NamedTuple):
    """The place where two conversations of an application part."""

    shared_tokens: int
    block: int
    where: str
    offset: int | None
    """Number of characters before it in that field."""


@dataclass(slots=True)
class ApplicationSums:
    """An application's part of the log."""

    application: Application
    num_requests: int = 0
    offered_tokens: int = 0
    cached_tokens: int = 0
    divergence: Divergence | None = None


class Cost(NamedTuple):
    """What fixing would save: a finding, or all of a kind."""

    tokens: int
    dollars: float | None


@dataclass(slots=True)
class Audit:
    """All that was found."""

    files: tuple[Path, ...]
    block_size: int
    capacity_tokens: int
    as_is: Sums
    normalised: Sums
    """Totals in normal form, as `--fix` writes it."""
    all_fixed: Sums
    """Totals with every finding fixed."""
    flaws: FoundFlaws
    applications: list[ApplicationSums]
    findings: list[AuditFinding]
    subject_to_cost: dict[tuple[KindName, str], Cost]
    kind_to_cost: dict[KindName, Cost]
    branches: list[Branch]
    model_to_tokens: dict[str, int]

    def cost(self, finding: AuditFinding) -> Cost | None:
        """What a finding costs; None for what costs no tokens."""
        return self.subject_to_cost.get((finding.kind, finding.subject))


@dataclass(frozen=True, slots=True)
class Options:
    """What an audit depends on, besides the log."""

    capacity_tokens: int
    price_saved: Callable[[str], float | None]
    """Dollars that a model's million of tokens saves by being reused; None where that is not known."""
    kinds: Sequence[DefectKind] = KINDS
    min_tokens: int = MIN_TOKENS
    """The shortest prefix that providers cache."""


async def audit(
    files: Sequence[Path], tokens: TokenSource, options: Options, *, on_read: OnRead, on_fixed: OnFixed | None = None
) -> Audit:
    """Read the files twice.

    Args:
        files: in the order in which they were written.
        tokens: makes them.
        options: all else.
        on_read: is told how many more bytes were read, twice as many as there are in the end.
        on_fixed: takes each request with its body in normal form.

    Raises:
        OSError: a file cannot be read.

    """
    flaws, learned = FoundFlaws(), Learned(min_tokens=options.min_tokens)
    for request in _requests(files, flaws, on_read):
        learned.see(request)
    fixes = [kind.make_fix(learned) for kind in options.kinds if kind.make_fix is not None]
    divergences = await _divergences(learned, tokens, fixes)
    found = [finding for kind in options.kinds for finding in kind.find(learned)]
    replays = _Replays(learned, tokens, options, {each.kind for each in found})
    for request in _requests(files, FoundFlaws(), on_read):
        normal = normal_form(request.body)
        if on_fixed is not None:
            on_fixed(request, normal)
        if not await replays.add(learned.find(request), normal):
            flaws.add(Flaw.NOT_RENDERED, request.place)
    return replays.result(files, flaws, found, divergences)


def _requests(files: Sequence[Path], flaws: FoundFlaws, on_read: OnRead) -> Iterator[LoggedRequest]:
    for path in files:
        for line in read_lines(path, on_read):
            try:
                request = read_request(line)
            except FlawError as error:
                flaws.add(error.flaw, line.place)
            else:
                yield request


class _Remedy(NamedTuple):
    """A kind whose fixing is replayed."""

    fix: Fix
    replay: CacheReplay


class _Replays:
    """The log as it is, in normal form, and fixed in every way."""

    def __init__(self, learned: Learned, tokens: TokenSource, options: Options, kinds: set[KindName]) -> None:
        self._tokens = tokens
        self._options = options
        found = [kind for kind in options.kinds if kind.name in kinds]
        self._as_is, self._normalised, self._all = self._replay(), self._replay(), self._replay()
        self._learned = learned
        self._kind_to_remedy = {
            kind.name: _Remedy(kind.make_fix(learned), self._replay()) for kind in found if kind.make_fix is not None
        }
        self._all_fixes = [kind.make_fix(learned) for kind in found if kind.make_fix is not None]
        self._costs: dict[tuple[KindName, str], list[float]] = {}
        self._unpriced: set[tuple[KindName, str]] = set()
        self._key_to_sums: dict[ApplicationKey, ApplicationSums] = {}
        self._model_to_tokens: Counter[str] = Counter()

    def _replay(self) -> CacheReplay:
        return CacheReplay(capacity_tokens=self._options.capacity_tokens, block_size=self._tokens.block_size)

    async def add(self, seen: PlacedRequest, normal_body: dict[str, Any]) -> bool:
        """The next request; returns whether it could be rendered."""
        request = seen.request
        keys = await self._tokens.keys(request.body)
        if keys is None:
            return False
        cached = self._as_is.add(keys)
        computed = keys.num_tokens - cached
        self._count(seen, keys.num_tokens, cached)
        self._normalised.add(await self._keys(normal_body, request, keys))
        for name, remedy in self._kind_to_remedy.items():
            fixed = remedy.fix(seen)
            other = keys if fixed is None else await self._keys(fixed.body, request, keys)
            saved = computed - (other.num_tokens - remedy.replay.add(other))
            if fixed is not None:
                self._note(name, fixed.subject, saved, request.model)
        self._all.add(await self._keys(_with_all(self._all_fixes, seen, self._learned), request, keys))
        return True

    async def _keys(self, body: dict[str, Any], request: LoggedRequest, keys: Keys) -> Keys:
        """The keys of another body for the same request."""
        return keys if body is request.body else (await self._tokens.keys(body) or keys)

    def _count(self, seen: PlacedRequest, num_tokens: int, cached: int) -> None:
        self._model_to_tokens[seen.request.model] += num_tokens
        application = self._learned.applications.get(seen.application)
        if application is not None:
            sums = self._key_to_sums.setdefault(application.key, ApplicationSums(application))
            sums.num_requests += 1
            sums.offered_tokens += num_tokens
            sums.cached_tokens += cached

    def _note(self, kind: KindName, subject: str, saved: int, model: str) -> None:
        cost = self._costs.setdefault((kind, subject), [0, 0.0])
        cost[0] += saved
        dollars = self._options.price_saved(model)
        if dollars is None:
            self._unpriced.add((kind, subject))
        else:
            cost[1] += saved * dollars / 1e6

    def result(
        self,
        files: Sequence[Path],
        flaws: FoundFlaws,
        found: list[AuditFinding],
        divergences: dict[ApplicationKey, Divergence],
    ) -> Audit:
        """The audit, when all requests were added."""
        applications = sorted(self._key_to_sums.values(), key=lambda each: -each.offered_tokens)[:MAX_APPLICATIONS]
        for each in applications:
            each.divergence = divergences.get(each.application.key)
        costs = {
            place: Cost(round(tokens), None if place in self._unpriced else dollars)
            for place, (tokens, dollars) in self._costs.items()
        }
        findings = [each for each in found if self._is_worth_it(each, costs)]
        findings.sort(
            key=lambda each: -(costs[each.kind, each.subject].tokens if (each.kind, each.subject) in costs else 0)
        )
        return Audit(
            tuple(files),
            self._tokens.block_size,
            self._options.capacity_tokens,
            self._as_is.sums,
            self._normalised.sums,
            self._all.sums,
            flaws,
            applications,
            findings,
            costs,
            _by_kind(costs),
            self._as_is.branches(MAX_BRANCHES),
            dict(self._model_to_tokens.most_common()),
        )

    def _is_worth_it(self, finding: AuditFinding, costs: dict[tuple[KindName, str], Cost]) -> bool:
        """Content that is moved for nothing was where it should be: behind all that is shared, say."""
        if finding.kind not in {KindName.VOLATILE, KindName.LATE_STATIC}:
            return True
        cost = costs.get((finding.kind, finding.subject))
        return cost is None or cost.tokens > 0


def _by_kind(costs: dict[tuple[KindName, str], Cost]) -> dict[KindName, Cost]:
    by_kind: dict[KindName, Cost] = {}
    for (kind, _), cost in costs.items():
        before = by_kind.get(kind, Cost(0, 0.0))
        dollars = None if before.dollars is None or cost.dollars is None else before.dollars + cost.dollars
        by_kind[kind] = Cost(before.tokens + cost.tokens, dollars)
    return by_kind


def _with_all(fixes: Iterable[Fix], seen: PlacedRequest, learned: Learned) -> dict[str, Any]:
    """A request's body, fixed in every way."""
    for fix in fixes:
        fixed = fix(seen)
        if fixed is not None:
            seen = learned.find(LoggedRequest(seen.request.place, fixed.body, seen.request.session_id))
    return seen.request.body


async def _divergences(learned: Learned, tokens: TokenSource, fixes: Sequence[Fix]) -> dict[ApplicationKey, Divergence]:
    """Where the examples of each application part. Notes on it how much they share, and would share."""
    found: dict[ApplicationKey, Divergence] = {}
    for application in learned.applications:
        application.shared_tokens, place = await _shared([each.body for each in application.examples], tokens)
        if application.shared_tokens is not None and place is not None:
            block = application.shared_tokens // tokens.block_size
            found[application.key] = Divergence(application.shared_tokens, block, *_where(*place))
            fixed = [_with_all(fixes, learned.find(each), learned) for each in application.examples]
            application.shareable_tokens, _ = await _shared(fixed, tokens)
    return found


async def _shared(
    bodies: Sequence[dict[str, Any]], tokens: TokenSource
) -> tuple[int | None, tuple[dict[str, Any], dict[str, Any]] | None]:
    """The least number of tokens that two of them begin with alike, and which two; None where there are no two."""
    read = [(each, ids) for each in bodies if (ids := await tokens.token_ids(each)) is not None]
    pairs = [(common_prefix(ids, other_ids), (one, other)) for (one, ids), (other, other_ids) in pairwise(read)]
    return min(pairs, key=lambda pair: pair[0]) if pairs else (None, None)


def _where(body: dict[str, Any], other: dict[str, Any]) -> tuple[str, int | None]:
    """The first field that differs: of the system prompt, the tools, the messages, as most chat templates have them."""
    for one, another in zip(system_texts(body), system_texts(other), strict=False):
        if one.text != another.text:
            return path_text(one.path), common_prefix(one.text, another.text)
    for index, (tool, another_tool) in enumerate(zip(tool_list(body), tool_list(other), strict=False)):
        if tool != another_tool:
            return f"tools[{index}]", None
    if len(tool_list(body)) != len(tool_list(other)):
        return "tools", None
    for one, another in zip(all_texts(body), all_texts(other), strict=False):
        if one != another:
            return path_text(one.path), common_prefix(one.text, another.text)
    return "the end", None
