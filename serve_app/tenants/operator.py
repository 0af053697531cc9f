"""The key of Warmroute's own commands and probes, which ask the model to see whether it answers."""

from collections.abc import Mapping

from serve_app.settings.cluster_secret import SecretError, derived_key

OPERATOR = "WARMROUTE"
"""The tenant of that key; in capitals, so that no tenant of a key file has its name."""


def operator_key(environment: Mapping[str, str] | None = None) -> str:
    """The key, which whoever has the cluster's secret can tell. It is valid whatever the key file says.

    Raises:
        SecretError: the cluster's secret is not set.

    """
    return f"wr-operator-{derived_key('operator', environment).hex()}"


def operator_headers(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Headers with the key; none where the cluster's secret is not known."""
    try:
        return {"authorization": f"Bearer {operator_key(environment)}"}
    except SecretError:
        return {}
