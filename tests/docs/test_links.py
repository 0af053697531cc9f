"""Every link in the documentation leads somewhere, and every page can be found."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.pages import DOCS, OUTSIDE, PAGES, ROOT, anchors, links, slug


@pytest.mark.parametrize("page", [*PAGES, *OUTSIDE], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """To a file that is there, and to a heading that it has."""
    for link in links(page):
        assert link.path.exists(), f"{link} leads nowhere"
        assert not link.anchor or link.anchor in anchors(link.path), f"{link} names no heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_pages_link_within_the_documentation(page: Path) -> None:
    """The site has nothing else."""
    for link in links(page):
        assert link.path.is_relative_to(DOCS), f"{link} leaves the documentation"


def test_every_page_is_in_the_navigation() -> None:
    """Once, and nothing is there that does not exist."""
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    listed = list(_pages(site["nav"]))
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in PAGES)


def test_headings_are_named_as_github_names_them() -> None:
    """In lower case, with dashes, without code's marks and punctuation."""
    assert slug("Who may see it") == "who-may-see-it"
    assert slug("llm.deployment_config") == "llmdeployment_config"
    assert slug("warmroute serve-config") == "warmroute-serve-config"


def _pages(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    else:
        for part in entry.values() if isinstance(entry, dict) else entry:
            yield from _pages(part)
