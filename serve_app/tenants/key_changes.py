"""What `warmroute keys` does to a key file: make, rotate and revoke keys. Pure; the new key itself is only returned."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from serve_app.tenants.api_key import NewKey, key_digest, new_key
from serve_app.tenants.key_file import MAX_LIVE_KEYS, KeyEntry, KeyFile, KeyFileError, TenantEntry


@dataclass(frozen=True, slots=True)
class Made:
    """A new key, and the file in which it is valid."""

    key: NewKey
    file: KeyFile


def make_key(
    file: KeyFile,
    tenant: str,
    *,
    now: datetime,
    lifetime: timedelta | None = None,
    group: str | None = None,
    models: Sequence[str] = (),
) -> Made:
    """Make a key for a tenant, who is added if it is a new one.

    Args:
        file: as it is.
        tenant: the tenant's name.
        now: the present moment.
        lifetime: time until the key expires; None for never.
        group: the group that the tenant belongs to from now on; None leaves it as it is.
        models: what it may ask for from now on; nothing leaves it as it is.

    Raises:
        KeyFileError: the tenant has as many live keys as it may, or a name is not allowed.

    """
    entry = file.tenants.get(tenant, TenantEntry())
    if len(entry.live_keys(now)) >= MAX_LIVE_KEYS:
        ids = " and ".join(key.id for key in entry.live_keys(now))
        raise KeyFileError(
            f"{tenant} has {MAX_LIVE_KEYS} live keys, {ids}: revoke one with `warmroute keys revoke`, or wait until "
            "one expires"
        )
    key = new_key()
    expires = None if lifetime is None else now + lifetime
    made = KeyEntry(id=key.id, sha256=key_digest(key.text.encode()), created=now, expires=expires)
    changed = msgspec.structs.replace(
        entry,
        keys=(*entry.live_keys(now), made),
        group=entry.group if group is None else group,
        models=tuple(models) if models else entry.models,
    )
    return Made(key, file.with_tenant(tenant, changed))


def rotate_key(
    file: KeyFile, tenant: str, *, now: datetime, overlap: timedelta, lifetime: timedelta | None = None
) -> Made:
    """Make a key that takes the place of a tenant's only one, which expires after the overlap.

    Raises:
        KeyFileError: the tenant does not have exactly one live key.

    """
    entry = file.tenants.get(tenant)
    live = () if entry is None else entry.live_keys(now)
    if entry is None or len(live) != 1:
        raise KeyFileError(f"{tenant} has {len(live)} live keys in place of one: {_remedy(len(live))}")
    (old,) = live
    ends = now + overlap
    ending = msgspec.structs.replace(old, expires=ends if old.expires is None else min(ends, old.expires))
    ending_file = file.with_tenant(tenant, msgspec.structs.replace(entry, keys=(ending,)))
    return make_key(ending_file, tenant, now=now, lifetime=lifetime)


def revoke_key(file: KeyFile, key_id: str) -> tuple[str, KeyFile]:
    """Take a key out of the file; returns its tenant, and the file without it.

    Raises:
        KeyFileError: there is no such key.

    """
    for name, tenant in file.tenants.items():
        kept = tuple(key for key in tenant.keys if key.id != key_id)
        if len(kept) < len(tenant.keys):
            return name, file.with_tenant(name, msgspec.structs.replace(tenant, keys=kept))
    raise KeyFileError(f"there is no key {key_id}: `warmroute keys list` shows them")


def _remedy(num_live: int) -> str:
    if num_live:
        return "one of them takes the other's place already; revoke the old one when it is not used any more"
    return "make one with `warmroute keys new`"
