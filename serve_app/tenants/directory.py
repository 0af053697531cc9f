"""Who may ask: each key's tenant, as the key file has it now."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from serve_app.tenants.api_key import key_digest
from serve_app.tenants.isolation import Isolation
from serve_app.tenants.key_file import KeyFile
from serve_app.tenants.operator import OPERATOR


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever has a key."""

    tenant: str
    key_id: str
    salt: str
    """The salt of its prompts; empty where all tenants share one cache."""
    expires_s: float | None
    """Unix time from which the key is refused; None for never."""
    models: frozenset[str] | None
    """Names of models and adapters that it may ask for; None for all."""

    def may_ask(self, model: str) -> bool:
        """Whether it may ask for this model or adapter."""
        return self.models is None or model in self.models


class Directory:
    """All callers of one key file."""

    def __init__(self, digest_to_caller: Mapping[str, Caller], tenant_to_salt: Mapping[str, str]) -> None:
        self._digest_to_caller = digest_to_caller
        self._id_to_caller = {caller.key_id: caller for caller in digest_to_caller.values()}
        self._tenant_to_salt = tenant_to_salt

    @classmethod
    def of(cls, key_file: KeyFile, isolation: Isolation, *, own_key: str) -> Self:
        """The callers of a key file, and Warmroute itself with its own key."""
        tenant_to_salt = {name: isolation.salt(name, tenant.group) for name, tenant in key_file.tenants.items()}
        tenant_to_salt[OPERATOR] = isolation.salt(OPERATOR, None)
        digest_to_caller = dict(_callers(key_file, tenant_to_salt))
        digest_to_caller[key_digest(own_key.encode())] = Caller(
            OPERATOR, OPERATOR, tenant_to_salt[OPERATOR], expires_s=None, models=None
        )
        return cls(digest_to_caller, tenant_to_salt)

    def find(self, key: bytes, *, now_s: float) -> Caller | None:
        """Whose key this is; None if it is no one's, or has expired.

        Args:
            key: as the client sent it.
            now_s: Unix time.

        """
        caller = self._digest_to_caller.get(key_digest(key))
        return None if caller is None or _has_expired(caller, now_s) else caller

    def is_live(self, key_id: str, *, now_s: float) -> bool:
        """Whether the key of this id is valid now."""
        caller = self._id_to_caller.get(key_id)
        return caller is not None and not _has_expired(caller, now_s)

    def salt(self, tenant: str) -> str | None:
        """The salt of a tenant's prompts; None of an unknown one."""
        return self._tenant_to_salt.get(tenant)


def _callers(key_file: KeyFile, tenant_to_salt: Mapping[str, str]) -> Iterator[tuple[str, Caller]]:
    for name, tenant in key_file.tenants.items():
        models = None if tenant.models is None else frozenset(tenant.models)
        for key in tenant.keys:
            yield key.sha256, Caller(name, key.id, tenant_to_salt[name], _unix_time(key.expires), models)


def _unix_time(moment: datetime | None) -> float | None:
    return None if moment is None else moment.astimezone(UTC).timestamp()


def _has_expired(caller: Caller, now_s: float) -> bool:
    return caller.expires_s is not None and now_s >= caller.expires_s
