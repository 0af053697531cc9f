"""Errors of the routing core.

RouterError
|- NoReplicasError      no replica to choose from
|- UnknownPolicyError   a policy name that does not exist
"""


class RouterError(Exception):
    """Base class of every error that the routing core raises on purpose."""


class NoReplicasError(RouterError):
    """No replica is known, so no request can be placed."""

    def __init__(self) -> None:
        super().__init__("no replica is ready: wait for the deployment to report running replicas")


class UnknownPolicyError(RouterError):
    """The policy's name is not in the table of policies."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"unknown policy {name!r}: use one of {', '.join(known)}")
