"""The pages of the documentation, read as a reader's tools read them: links, headings, code."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
OUTSIDE = tuple(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"))
PAGES = tuple(sorted(DOCS.rglob("*.md")))

CONTINUED = re.compile(r" *\\\n *")
FENCE = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
NO_SLUG = re.compile(r"[^\w\- ]")


@dataclass(frozen=True, slots=True)
class Link:
    """A relative link: the file that it leads to, and the heading there."""

    source: Path
    path: Path
    anchor: str

    def __str__(self) -> str:
        """For messages."""
        return f"{self.source.relative_to(ROOT)} -> {self.path.relative_to(ROOT)}#{self.anchor}"


def links(page: Path) -> list[Link]:
    """Every link of a page to a file of the repository."""
    targets = LINK.findall(INLINE_CODE.sub("", without_fences(page.read_text())))
    return [_link(page, target) for target in targets if "://" not in target and not target.startswith("mailto:")]


def anchors(page: Path) -> set[str]:
    """The names by which GitHub and mkdocs know a page's headings."""
    return {slug(heading) for heading in HEADING.findall(without_fences(page.read_text()))}


def slug(heading: str) -> str:
    """A heading's name in links."""
    return NO_SLUG.sub("", heading.strip().lower()).replace(" ", "-")


def code(page: Path) -> list[str]:
    """What a page shows as code: a string for each command or line of a block, and for each piece within text."""
    text = page.read_text()
    blocks = [CONTINUED.sub(" ", match[0]) for match in FENCE.finditer(text)]
    return [*(line for block in blocks for line in block.splitlines()), *INLINE_CODE.findall(without_fences(text))]


def without_fences(text: str) -> str:
    """The text without its blocks of code."""
    return FENCE.sub("", text)


def _link(page: Path, target: str) -> Link:
    path, _, anchor = target.partition("#")
    return Link(page, (page.parent / path).resolve() if path else page, anchor)
