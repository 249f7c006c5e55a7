"""Pages put into a ledger by hand, and the tables made of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from civitai_pipeline import jsontext
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.pages import LandedPage, Options, PageId
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline_tests.tables import Built, built_tables

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pyarrow as pa

VERSION = 910011
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
Json = dict[str, Any]


def image(image_id: int, prompt: str | None = "a kite", *, like: int = 0, **fields: object) -> Json:
    """An item; without a prompt, one whose metadata is null."""
    meta = None if prompt is None else {"prompt": prompt}
    return {"id": image_id, "meta": meta, "stats": {"likeCount": like}, "browsingLevel": 1, **fields}


@dataclass
class Pages:
    """A ledger in the making: each page a minute after the one before."""

    folder: Path
    landed: int = 0
    numbers: dict[int, int] = field(default_factory=dict)

    @property
    def lake(self) -> Lake:
        return Lake.at(str(self.folder))

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.lake, VERSION)

    def land(
        self,
        *items: object,
        walk: int = 1,
        options: Options | None = None,
        metadata: Json | None = None,
        at: datetime | None = None,
        confirms: PageId | None = None,
        absent: Sequence[int] = (),
    ) -> LandedPage:
        """Lands the next page of a walk."""
        self.landed += 1
        self.numbers[walk] = self.numbers.get(walk, 0) + 1
        metadata = {} if metadata is None else metadata
        page = LandedPage(
            id=PageId(walk, self.numbers[walk]),
            model_version_id=VERSION,
            sequence=self.landed,
            run_id=None,
            listing={"model_version_id": VERSION, "sort": "Oldest", "browsing_level": walk},
            cursor=None,
            url="http://127.0.0.1/",
            options=options or Options(),
            fetched_at=at or NOON + timedelta(minutes=self.landed),
            elapsed_s=0.1,
            items=[],
            metadata=metadata,
            confirms=confirms,
            absent=frozenset(absent),
        )
        raw = jsontext.dumps({"items": items, "metadata": metadata})
        self.ledger.land(page, None if confirms is not None else raw)
        return page

    def build(self, *, rebuild: bool = False) -> Built:
        """The tables, not written."""
        return built_tables(self.lake, VERSION, rebuild=rebuild)

    def bring_up(self) -> Built:
        """The tables, written into the lake."""
        built = self.build()
        built.put_in_place(self.lake, VERSION)
        return built


def row(table: pa.Table, image_id: int | None) -> Json:
    """The one row of an image."""
    (found,) = [entry for entry in table.to_pylist() if entry["image_id"] == image_id]
    assert isinstance(found, dict)
    return found


def column(table: pa.Table, name: str) -> list[Any]:
    """A column's values."""
    values = table.column(name).to_pylist()
    assert isinstance(values, list)
    return values


def same(one: Built, other: Built) -> bool:
    """Whether two builds made the same tables, to the last cell and with the same provenance."""
    return one.equals(other, provenance=True)
