"""The key file: tenants, the hashes of their keys, and what each may do. A Kubernetes Secret, or a file on every node.

The file never has a key in it, only SHA-256 digests. It is YAML; as JSON, which is YAML too, a large one is read some
fifty times as fast.
"""

import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import msgspec
import yaml

MAX_LIVE_KEYS = 2
"""Keys of a tenant that are valid at the same time, at most: the one in use, and the one that takes its place."""

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9_.-]{0,61}[a-z0-9])?$")]
"""A tenant or a group: a label of metrics, so lower case, and at most 63 characters."""
Time = Annotated[datetime, msgspec.Meta(tz=True)]
Converted = TypeVar("Converted")


class KeyFileError(ValueError):
    """The key file cannot be used; the message says what is wrong in it, and never quotes a digest."""


class KeyEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the file has of one key."""

    id: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-z][0-9a-z_-]{0,31}$")]
    """Its name for people, in lists and in logs."""
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
    created: Time | None = None
    expires: Time | None = None
    """The moment from which it is refused; None for never."""

    def is_live(self, now: datetime) -> bool:
        """Whether it has not expired."""
        return self.expires is None or now < self.expires


class TenantEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the file has of one tenant."""

    keys: tuple[KeyEntry, ...] = ()
    group: Name | None = None
    """Tenants of one group share their cache on purpose, where `access.isolation` is `group`."""
    models: tuple[str, ...] | None = None
    """Names of models and adapters that it may ask for; None for all."""

    def live_keys(self, now: datetime) -> tuple[KeyEntry, ...]:
        """Its keys that have not expired."""
        return tuple(key for key in self.keys if key.is_live(now))


class KeyFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The whole content."""

    tenants: dict[Name, TenantEntry]
    salt_version: Annotated[int, msgspec.Meta(ge=0)] = 0
    """A new number makes all that is cached unreachable, for all tenants and at once."""

    def __post_init__(self) -> None:
        """Refuse two keys of one id or digest: it would not be clear whose a request is."""
        entries = [key for tenant in self.tenants.values() for key in tenant.keys]
        for what, values in (("id", [key.id for key in entries]), ("sha256", [key.sha256 for key in entries])):
            repeated = _first_repeated(values)
            if repeated is not None:
                named = repeated if what == "id" else next(key.id for key in entries if key.sha256 == repeated)
                raise ValueError(
                    f"two keys have the same {what} (key {named}): make a new one with `warmroute keys new`"
                )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file.

        Raises:
            KeyFileError: it is absent, or is not such a file.

        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise KeyFileError(f"the key file {path} cannot be read: {error.strerror}") from error
        try:
            return cls.parse(content)
        except KeyFileError as error:
            raise KeyFileError(f"the key file {path} cannot be used: {error}") from None

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Read a file's content, YAML or JSON.

        Raises:
            KeyFileError: it is not such a content.

        """
        try:
            if content.lstrip().startswith(b"{"):
                fields = msgspec.json.decode(content)
            else:
                fields = yaml.load(content, Loader=yaml.CSafeLoader)
        except yaml.MarkedYAMLError as error:
            place = "" if error.problem_mark is None else f" in line {error.problem_mark.line + 1}"
            raise KeyFileError(f"it is not valid YAML{place}: {error.problem}") from None
        except (yaml.YAMLError, msgspec.DecodeError, ValueError, RecursionError):  # a date that does not exist, say
            raise KeyFileError("it is neither valid YAML nor valid JSON") from None
        return _converted(fields, cls)

    def save(self, path: Path) -> None:
        """Write a file in one step, readable by this user only: whoever reads it half written would refuse everyone.

        Raises:
            OSError: it cannot be written.

        """
        is_json = path.suffix == ".json"
        content = msgspec.json.encode(self) if is_json else yaml.safe_dump(_plain(self), sort_keys=False).encode()
        new = path.with_name(f".{path.name}.{os.getpid()}")
        new.touch(mode=0o600)
        try:
            new.write_bytes(content)
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)

    def with_tenant(self, name: str, tenant: TenantEntry) -> "KeyFile":
        """The same, with this tenant added, or in the place of the one of its name.

        Raises:
            KeyFileError: the name, or what the tenant has, is not allowed.

        """
        return _converted({**_plain(self), "tenants": {**_plain(self.tenants), name: _plain(tenant)}}, KeyFile)


def _converted(fields: object, cls: type[Converted]) -> Converted:
    try:
        return msgspec.convert(fields, cls)
    except msgspec.ValidationError as error:
        raise KeyFileError(_explained(fields, str(error))) from None


def _explained(fields: object, fault: str) -> str:
    """msgspec's sentence, and the tenant that it is about, which it leaves out."""
    tenants = fields.get("tenants") if isinstance(fields, dict) else None
    for name, entry in tenants.items() if isinstance(tenants, dict) else ():
        try:
            msgspec.convert({name: entry}, dict[Name, TenantEntry])
        except msgspec.ValidationError as error:
            in_key = "at `key`" in str(error)
            rule = "a name has 1 to 63 of a-z, 0-9, `_`, `.` and `-`, the first and last a letter or digit"
            return f"tenant {str(name)!r}: {rule if in_key else error}"
    return fault


def _first_repeated(values: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


def _plain(value: object) -> Any:  # noqa: ANN401  what YAML can write
    return msgspec.to_builtins(value, builtin_types=(datetime,))
