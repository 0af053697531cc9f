"""Keys, tokens and passwords in text that all requests share, by the detectors of detect-secrets."""

from collections.abc import Iterator

from serve_app.audit.kind import AuditFinding, DefectKind, KindName
from serve_app.audit.kinds.shared_texts import finding, shared_texts
from serve_app.audit.learned import Learned

DETECTORS = (
    "ArtifactoryDetector",
    "AWSKeyDetector",
    "AzureStorageKeyDetector",
    "BasicAuthDetector",
    "DiscordBotTokenDetector",
    "GitHubTokenDetector",
    "GitLabTokenDetector",
    "IbmCloudIamDetector",
    "JwtTokenDetector",
    "MailchimpDetector",
    "NpmDetector",
    "OpenAIDetector",
    "PrivateKeyDetector",
    "PypiTokenDetector",
    "SendGridDetector",
    "SlackDetector",
    "SquareOAuthDetector",
    "StripeDetector",
    "TelegramBotTokenDetector",
    "TwilioKeyDetector",
)
"""Those that know a secret by its form; others, by entropy or by a word such as `password`, cry wolf in prose."""


def find(learned: Learned) -> Iterator[AuditFinding]:
    """One finding for each secret; its text is in none."""
    # They come with urllib3, which must not be there before Locust patches the standard library.
    from detect_secrets.core.scan import scan_line
    from detect_secrets.settings import transient_settings

    with transient_settings({"plugins_used": [{"name": name} for name in DETECTORS]}):
        for shared in shared_texts(learned):
            offset = 0
            for line in shared.text.splitlines(keepends=True):
                for secret in sorted(scan_line(line), key=lambda each: each.type):
                    place = max(line.find(secret.secret_value or ""), 0)
                    yield finding(learned, KindName.SECRET, shared, offset + place, secret.type)
                offset += len(line)


KIND = DefectKind(
    KindName.SECRET,
    "Secret in a shared prefix",
    "Take it out and replace it; what is in a prompt is in logs, caches and answers. Let tools hold credentials.",
    find,
)
