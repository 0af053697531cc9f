"""PromQL over defined metrics: a query cannot name a metric or a label that does not exist.

Applications are always kept apart.
"""

from serve_app.telemetry.metrics import APPLICATION, PROMPT_TOKENS, Kind, Metric


def rate(metric: Metric, *, window: str, by: tuple[str, ...] = (), **where: str) -> str:
    """The rate of a counter a second, over a window such as `5m`, summed over all routers.

    Args:
        metric: a counter.
        window: PromQL's duration.
        by: labels that are kept apart.
        where: a matcher for each label, `=x`, `!=x`, `=~x` or `!~x`.

    Raises:
        ValueError: the metric is no counter, or has no such label.

    """
    if metric.kind is not Kind.COUNTER:
        raise ValueError(f"{metric.name} is a {metric.kind}: a rate is a counter's")
    return f"sum{_by(metric, by)} (rate({_selector(metric, where)}[{window}]))"


def latest(metric: Metric, *, over: str = "max", by: tuple[str, ...] = (), **where: str) -> str:
    """The latest value of a gauge over all routers, each of which has its own view.

    Raises:
        ValueError: the metric is no gauge, or has no such label.

    """
    if metric.kind is not Kind.GAUGE:
        raise ValueError(f"{metric.name} is a {metric.kind}: its value alone says nothing")
    return f"{over}{_by(metric, by)} ({_selector(metric, where)})"


def hit_rate(*, window: str, stage: str = "reused", of: str = "offered", by: tuple[str, ...] = (), **where: str) -> str:
    """The share of the prompt tokens of one stage of the funnel that reached another: a ratio of sums."""
    reached = rate(PROMPT_TOKENS, window=window, by=by, stage=f"={stage}", **where)
    return f"{reached} / {rate(PROMPT_TOKENS, window=window, by=by, stage=f'={of}', **where)}"


def _by(metric: Metric, labels: tuple[str, ...]) -> str:
    _check(metric, labels)
    return f" by ({', '.join((APPLICATION, *labels))})"


def _selector(metric: Metric, where: dict[str, str]) -> str:
    _check(metric, tuple(where))
    matchers = []
    for label, matcher in where.items():
        operator = next(prefix for prefix in ("=~", "!~", "!=", "=") if matcher.startswith(prefix))
        matchers.append(f'{label}{operator}"{matcher.removeprefix(operator)}"')
    return metric.exported + (f"{{{', '.join(matchers)}}}" if matchers else "")


def _check(metric: Metric, labels: tuple[str, ...]) -> None:
    unknown = set(labels) - {APPLICATION, *metric.labels}
    if unknown:
        raise ValueError(f"{metric.name} has no label {', '.join(sorted(unknown))}: it has {', '.join(metric.labels)}")
