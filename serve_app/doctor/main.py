"""Puts the doctor together: gather once, then judge."""

from serve_app.doctor.cluster_checks import (
    check_application,
    check_environment,
    check_hard_stop,
    check_ports,
    check_versions,
)
from serve_app.doctor.facts import Facts
from serve_app.doctor.finding import Finding
from serve_app.doctor.gathering import gather
from serve_app.doctor.routing_checks import (
    check_exclusions,
    check_parity,
    check_receipts,
    check_replicas,
    check_request,
    check_routers,
    check_tiers,
    check_tokenizer,
)
from serve_app.doctor.target import Target

CHECKS = (
    check_application,
    check_versions,
    check_environment,
    check_hard_stop,
    check_ports,
    check_replicas,
    check_routers,
    check_request,
    check_receipts,
    check_exclusions,
    check_parity,
    check_tokenizer,
    check_tiers,
)


def examine(target: Target) -> list[Finding]:
    """Every check of one application, in order."""
    return judge(gather(target))


def judge(facts: Facts) -> list[Finding]:
    """Every check of what was gathered."""
    return [check(facts) for check in CHECKS]
