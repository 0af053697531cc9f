"""Whose request it is, by a header that the gateway before us sets: for accounts apart. The cache is not apart."""

from collections.abc import Iterable, Sequence

NONE = "none"
"""Of requests without the header."""
OTHER = "other"
"""Of all whose value is not among the names: what clients write must not become a label."""


class TenantNames:
    """A closed set of names.

    Args:
        names: none for no accounts.
        header: in lower case.

    """

    def __init__(self, names: Sequence[str], *, header: str) -> None:
        self._value_to_name = {name.encode(): name for name in names}
        self._header = header.encode()

    def of(self, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """Whose a request with these headers is; empty where there are no accounts."""
        if not self._value_to_name:
            return ""
        value = next((value for name, value in headers if name == self._header), None)
        return NONE if value is None else self.counted_as(value.strip())

    def counted_as(self, name: bytes) -> str:
        """The name under which this tenant is counted; empty where there are no accounts."""
        return self._value_to_name.get(name, OTHER) if self._value_to_name else ""
