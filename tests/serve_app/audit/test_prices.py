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


@pytest.mark.parametrize(
    ("price", "saved"),
    [
        (Price(input=3, cached=0.3), 2.7),
        (Price(input=3, cached=0.3, written=3.75), 3.45),
        (Price(input=3, cached=3), 0),
        (Price(input=0, cached=0), 0),
        (Price(input=3, cached=0.3, written=0), -0.3),
    ],
)
def test_what_is_reused_saves_its_writing(price: Price, saved: float) -> None:
    """Where writing has a price of its own, a token that is reused is not written again."""
    assert price.saved == pytest.approx(saved)


def test_own_prices_need_no_star(tmp_path: Path) -> None:
    """A model that the file does not name has its public price."""
    path = tmp_path / "prices.yaml"
    path.write_text("mine: {input: 1, cached: 0.5, written: 1.25}\n")
    prices = Prices.read(path)
    assert prices.of("mine") == Price(input=1, cached=0.5, written=1.25)
    assert prices.of("gpt-4o") == Prices().of("gpt-4o")
    assert prices.of("unknown to all") is None


def test_a_price_of_nothing_is_a_price(tmp_path: Path) -> None:
    """A model of one's own may cost nothing; it is not looked up elsewhere."""
    path = tmp_path / "prices.yaml"
    path.write_text("gpt-4o: {input: 0, cached: 0}\n")
    assert Prices.read(path).of("gpt-4o") == Price(input=0, cached=0)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("gpt-4o: {input: 3}", "gpt-4o.cached: Field required"),
        ("gpt-4o: {input: 3, cached: free}", "gpt-4o.cached: Input should be a valid number"),
        ("gpt-4o: {input: 3, cached: 1, output: 9}", "gpt-4o.output: Extra inputs are not permitted"),
        ("gpt-4o: {input: -1, cached: 0}", "gpt-4o.input: Input should be greater than or equal to 0"),
        ("", "the file: Input should be a valid dictionary"),
    ],
)
def test_the_wrong_line_of_a_price_file_is_named(tmp_path: Path, content: str, expected: str) -> None:
    """With what a line looks like."""
    path = tmp_path / "prices.yaml"
    path.write_text(content)
    with pytest.raises(PriceError) as raised:
        Prices.read(path)
    assert expected in str(raised.value)
    assert "a line is `MODEL: {input: 2.5, cached: 0.25}`" in str(raised.value)


def test_a_price_file_that_is_absent_or_binary_is_named(tmp_path: Path) -> None:
    """In a sentence, not by a traceback."""
    path = tmp_path / "prices.yaml"
    with pytest.raises(PriceError, match=r"cannot read the prices in .*prices\.yaml"):
        Prices.read(path)
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(PriceError, match=r"prices\.yaml"):
        Prices.read(path)
