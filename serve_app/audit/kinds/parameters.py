"""Parameters that make other tokens of the same messages."""

from collections.abc import Iterator

import orjson

from serve_app.audit.application import PARAMETERS, Application, parameters_of
from serve_app.audit.kind import AuditFinding, DefectKind, Fix, FixedRequest, KindName
from serve_app.audit.kinds.styles import finding
from serve_app.audit.learned import Learned, PlacedRequest


def _applications(learned: Learned) -> Iterator[Application]:
    return (each for each in learned.applications if each.parameters.num_others)


def find(learned: Learned) -> Iterator[AuditFinding]:
    """Applications whose requests have different ones."""
    for application in _applications(learned):
        settings = [orjson.loads(signature[0]) for signature in application.parameters.signature_to_use]  # type: ignore[arg-type]  # as made
        names = sorted(
            {name for each in settings for name in each if any(each.get(name) != one.get(name) for one in settings)}
        )
        what = f"{len(settings):,} different settings of {', '.join(names)}"
        yield finding(KindName.PARAMETERS, str(application.key), names[0], application.parameters, what)


def make_fix(learned: Learned) -> Fix:
    """All requests of an application have what most of them have."""
    key_to_usual = {application.key: application.parameters.usual[0] for application in _applications(learned)}

    def fix(seen: PlacedRequest) -> FixedRequest | None:
        usual = key_to_usual.get(seen.application)
        own = parameters_of(seen.request.body)
        if usual is None or orjson.dumps(own) == usual:
            return None
        body = {name: value for name, value in seen.request.body.items() if name not in PARAMETERS}
        if "tool_choice" in own:
            del body["tool_choice"]
        return FixedRequest(body | orjson.loads(usual), str(seen.application))  # type: ignore[arg-type]  # as made

    return fix


KIND = DefectKind(
    KindName.PARAMETERS,
    "Parameters that change the tokens",
    "Decide on one setting for an application, or run those that need another one apart.",
    find,
    make_fix,
)
