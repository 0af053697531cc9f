"""What a million prompt tokens cost: by genai-prices, or by a file of one's own."""

from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

MILLION = 1_000_000


class PriceError(ValueError):
    """A file of prices that cannot be used; the message says why."""


class Price(BaseModel):
    """US dollars for a million prompt tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: float = Field(ge=0)
    """Price of tokens that are computed."""
    cached: float = Field(ge=0)
    """Price of tokens that are reused."""
    written: float | None = Field(default=None, ge=0)
    """Price of tokens that are put into the cache, where that has one of its own."""

    @property
    def saved(self) -> float:
        """Dollars that a million tokens save by being reused instead of computed."""
        return (self.input if self.written is None else self.written) - self.cached


class Prices:
    """Prices by the model's name in requests.

    Args:
        model_to_price: of one's own; the name `*` is for all others.

    """

    def __init__(self, model_to_price: Mapping[str, Price] | None = None) -> None:
        self._model_to_price = dict(model_to_price or {})

    @classmethod
    def read(cls, path: Path) -> "Prices":
        """Read prices from a YAML file: `gpt-4o: {input: 2.5, cached: 1.25}`.

        Raises:
            PriceError: it cannot be read, or is no such file.

        """
        try:
            return cls(TypeAdapter(dict[str, Price]).validate_python(yaml.safe_load(path.read_bytes())))
        except (OSError, yaml.YAMLError) as error:
            raise PriceError(f"cannot read the prices in {path}: {error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise PriceError(
                f"{path}: {place}: {first['msg']}; a line is `MODEL: {{input: 2.5, cached: 0.25}}`, dollars a million"
            ) from error

    def of(self, model: str) -> Price | None:
        """The price of a model; None if it is not known."""
        own = self._model_to_price.get(model) or self._model_to_price.get("*")
        return own or _public_price(model)


@lru_cache
def _public_price(model: str) -> Price | None:
    from genai_prices import Usage, calc_price

    if not model:
        return None
    try:
        computed, cached, written = (
            calc_price(usage, model_ref=model).input_price
            for usage in (
                Usage(input_tokens=1000, output_tokens=0),
                Usage(input_tokens=1000, cache_read_tokens=1000, output_tokens=0),
                Usage(input_tokens=1000, cache_write_tokens=1000, output_tokens=0),
            )
        )
    except (LookupError, ValueError):
        return None
    return Price(input=_dollars(computed), cached=_dollars(cached), written=_dollars(written) or None)


def _dollars(price: Decimal) -> float:
    return float(price * 1000)
