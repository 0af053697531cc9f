"""Prices of prompt tokens."""

from pathlib import Path

import pytest

from serve_app.audit.prices import Price, PriceError, Prices


def test_public_prices_know_models_by_name() -> None:
    """Anthropic's cost more to write than to compute; OpenAI's do not."""
    claude, gpt = Prices().of("claude-sonnet-4-5"), Prices().of("gpt-4o")
    assert claude is not None
    assert gpt is not None
    assert claude.cached < claude.input < (claude.written or 0)
    assert 0 < gpt.cached < gpt.input
    assert claude.saved == pytest.approx((claude.written or 0) - claude.cached)
    assert Prices().of("a-model-of-our-own") is None
    assert Prices().of("") is None


def test_own_prices_come_first(tmp_path: Path) -> None:
    """By the model's name, and one for all others."""
    path = tmp_path / "prices.yaml"
    path.write_text("gpt-4o: {input: 3, cached: 1}\n'*': {input: 0.5, cached: 0.05}\n")
    prices = Prices.read(path)
    assert prices.of("gpt-4o") == Price(input=3, cached=1)
    assert prices.of("a-model-of-our-own") == Price(input=0.5, cached=0.05)


@pytest.mark.parametrize(
    "content", ["gpt-4o: 3", "gpt-4o: {input: 3}", "gpt-4o: {input: -1, cached: 0}", "a: [", "- 1"]
)
def test_a_file_that_is_no_prices_is_named(tmp_path: Path, content: str) -> None:
    """With what is wrong in it."""
    path = tmp_path / "prices.yaml"
    path.write_text(content)
    with pytest.raises(PriceError, match=r"prices\.yaml"):
        Prices.read(path)
