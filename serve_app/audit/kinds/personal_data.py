"""Personal data in text that all requests share: by checksums and numbering plans, not by guesses.

Payment cards, IBANs and US social security numbers are checked by python-stdnum, telephone numbers by libphonenumber.
"""

import re
from collections.abc import Iterator

from serve_app.audit.kind import AuditFinding, DefectKind, KindName
from serve_app.audit.kinds.shared_texts import finding, shared_texts
from serve_app.audit.learned import Learned

EMAIL = re.compile(r"(?<![:/\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}\b")
ROLES = frozenset(
    [
        "abuse",
        "admin",
        "api",
        "billing",
        "bot",
        "contact",
        "customer",
        "customerservice",
        "email",
        "example",
        "feedback",
        "git",
        "hello",
        "help",
        "hr",
        "info",
        "jobs",
        "legal",
        "mail",
        "marketing",
        "me",
        "name",
        "news",
        "no-reply",
        "noreply",
        "office",
        "orders",
        "postmaster",
        "press",
        "privacy",
        "root",
        "sales",
        "security",
        "service",
        "support",
        "team",
        "test",
        "user",
        "username",
        "webmaster",
        "you",
        "your-email",
        "your.email",
        "youremail",
    ]
)
"""Names of addresses that are no person's."""
EXAMPLE_DOMAINS = ("example.com", "example.org", "example.net", "test.com", "email.com", "domain.com", "company.com")
CARD = re.compile(r"\b(?:\d[ -]?){12,18}\d\b")
IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[0-9A-Z]{4}){2,7}(?: ?[0-9A-Z]{1,3})?\b")
SSN = re.compile(r"\b\d{3}-\d{2}-\d{4}\b")
MIN_CARD_DIGITS = 13
CARD_STARTS = ("4", "51", "52", "53", "54", "55", "2221", "34", "37", "6011", "65", "35", "36", "38")


def personal_data(text: str) -> Iterator[tuple[str, int]]:
    """What is there, and where it begins."""
    import phonenumbers
    from stdnum import iban, luhn
    from stdnum.us import ssn

    for match in EMAIL.finditer(text):
        name, _, domain = match.group().lower().partition("@")
        if name not in ROLES and not domain.endswith(EXAMPLE_DOMAINS):
            yield "e-mail address", match.start()
    for match in CARD.finditer(text):
        digits = re.sub(r"\D", "", match.group())
        if digits.startswith(CARD_STARTS) and len(digits) >= MIN_CARD_DIGITS and luhn.is_valid(digits):
            yield "payment card", match.start()
    for match in IBAN.finditer(text):
        if iban.is_valid(match.group()):
            yield "IBAN", match.start()
    for match in SSN.finditer(text):
        if ssn.is_valid(match.group()):
            yield "social security number", match.start()
    for number in phonenumbers.PhoneNumberMatcher(text, None, leniency=phonenumbers.Leniency.VALID):
        yield "telephone number", number.start


def find(learned: Learned) -> Iterator[AuditFinding]:
    """One finding for each; its text is in none."""
    for shared in shared_texts(learned):
        for what, offset in personal_data(shared.text):
            yield finding(learned, KindName.PERSONAL_DATA, shared, offset, what)


KIND = DefectKind(
    KindName.PERSONAL_DATA,
    "Personal data in a shared prefix",
    "Take it out of what all conversations get: look it up by a tool where it is needed.",
    find,
)
