"""What volatile values, version markers and chunks look like."""

import re

MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?"
    r"|Aug(?:ust)?|Sep(?:t(?:ember)?)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)"
)
DAY = r"(?:Mon|Tues?|Wed(?:nes)?|Thu(?:rs)?|Fri|Sat(?:ur)?|Sun)(?:day)?"
CLOCK = r"\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?: ?[APap]\.?[Mm]\.?)?"
NAME_TO_PATTERN = {
    "date or time": re.compile(
        rf"\b\d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}(?:[T ,]{{1,2}}{CLOCK})?(?:Z|[+-]\d{{2}}:?\d{{2}})?"
        rf"|\b\d{{1,2}}[-/.]\d{{1,2}}[-/.]\d{{4}}\b"
        rf"|\b(?:{DAY},? )?{MONTH} \d{{1,2}}(?:st|nd|rd|th)?(?:,? \d{{4}})?"
        rf"|\b(?:{DAY},? )?\d{{1,2}}(?:st|nd|rd|th)? {MONTH}(?:,? \d{{4}})?"
        rf"|\b{CLOCK}|\b{DAY}\b"
    ),
    "uuid": re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", re.IGNORECASE),
    "e-mail address": re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    "random id": re.compile(r"\b(?=[0-9A-Za-z_-]*\d)[0-9A-Za-z_-]{12,}\b"),
    "number": re.compile(r"[-+]?\d[\d,. ]*"),
}
"""In the order in which they are tried."""
VERSION = re.compile(
    r"(?:\b(?:version|ver|revision|rev|release|build)\b\W{0,4}v?\d[\w.\-]*)|(?:\bv\d+(?:[.\-_]\w+)*\b)", re.IGNORECASE
)
"""As `Version: 2026-11-01`, `v12`, `revision 7`."""


def volatile_name(before: str, value: str, after: str) -> str | None:
    """What kind of volatile thing a value is, or a part of; None for none."""
    text, start, end = before + value + after, len(before), len(before) + len(value)
    for name, pattern in NAME_TO_PATTERN.items():
        if any(match.start() < end and match.end() > start for match in pattern.finditer(text)):
            return name
    return None


def is_version(before: str, value: str, after: str) -> bool:
    """Whether a value is a version marker, or a part of one."""
    text, start, end = before + value + after, len(before), len(before) + len(value)
    return any(match.start() < end and match.end() > start for match in VERSION.finditer(text))
