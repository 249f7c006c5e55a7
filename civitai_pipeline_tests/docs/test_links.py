from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from civitai_pipeline_tests.docs.documents import DOCUMENTS, anchors_of, links_of

if TYPE_CHECKING:
    from pathlib import Path

MAX_PICTURE_BYTES = 200_000

RELATIVE_LINKS = [
    pytest.param(document, link, id=f"{document.name}: {link}")
    for document in DOCUMENTS
    for link in dict.fromkeys(links_of(document))
    if "://" not in link
]


@pytest.mark.parametrize(("document", "link"), RELATIVE_LINKS)
def test_every_relative_link_resolves(document: Path, link: str) -> None:
    place, _, anchor = link.partition("#")
    target = (document.parent / place).resolve() if place else document
    assert target.exists()
    if anchor:
        assert anchor in anchors_of(target)


def test_pictures_are_small() -> None:
    pictures = [p for d in DOCUMENTS for p in (d.parent / link for link in links_of(d)) if p.suffix == ".png"]
    assert pictures
    assert not [p for p in pictures if p.stat().st_size > MAX_PICTURE_BYTES]
