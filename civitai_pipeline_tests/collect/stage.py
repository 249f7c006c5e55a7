"""A lake and a running stand-in, runs over them whose sums are always checked, and what the lake then holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from civitai_pipeline.civitai.client import CivitaiClient
from civitai_pipeline.collect.collector import Collector
from civitai_pipeline.collect.options import CollectOptions
from civitai_pipeline.derive.prompt_tables import load_held
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline_tests.items import api_item
from civitai_pipeline_tests.tables import Built, built_tables

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pyarrow as pa

    from civitai_pipeline.collect.summary import Summary
    from civitai_pipeline.sandbox import Sandbox, World

VERSION = 910011
OUTCOMES = ("new", "updated", "duplicate", "no_prompt", "version_mismatch", "malformed")
# What two collections of the same images may differ in: when they were seen, and on which page.
_WHEN_AND_WHERE = ("first_seen_at", "last_seen_at", "first_page", "last_page", "prompt_withdrawn_at")

Json = dict[str, Any]


def item(image_id: int, prompt: str | None = None, **fields: object) -> Json:
    """An API-shaped item with a prompt of its own."""
    meta = {
        "prompt": f"kite number {image_id}, <lora:Kite:0.7>" if prompt is None else prompt,
        "civitaiResources": [{"type": "checkpoint", "modelVersionId": VERSION}],
    }
    return api_item(image_id, **{"meta": meta, **fields})


def items(count: int, start: int = 1) -> list[Json]:
    """Items with ids one after the other."""
    return [item(image_id) for image_id in range(start, start + count)]


@dataclass
class Stage:
    """A stand-in, and a lake to collect from it into."""

    server: Sandbox
    folder: Path
    client_options: dict[str, Any] = field(default_factory=dict)

    @property
    def world(self) -> World:
        return self.server.world

    @property
    def lake(self) -> Lake:
        return Lake.at(str(self.folder))

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.lake, VERSION)

    def collector(
        self,
        version: int = VERSION,
        on_page: Callable[[Summary], None] | None = None,
        run_id: str = "a run",
        **options: Any,  # noqa: ANN401 - the options of a run
    ) -> Collector:
        """A run with a client of its own that neither waits nor tries again."""
        settings = {"min_request_interval": 0, "timeout": 2.0, "retry_budget": 0.0} | self.client_options
        return Collector(
            CivitaiClient(self.server.url, **settings),
            self.lake,
            version,
            CollectOptions(**{"page_size": 5, **options}),
            run_id=run_id,
            on_page=on_page,
        )

    def collect(self, **options: Any) -> Summary:  # noqa: ANN401 - the options of a run
        """Runs, and checks what must hold after every run."""
        pages_before = self.pages()
        held_before = len(load_held(self.lake, VERSION).holdings)
        summary = self.collector(**options).run()
        self.check(summary, pages_before, held_before)
        return summary

    def pages(self) -> int:
        """How many pages have landed."""
        return sum(self.ledger.covered().values()) - len(self.ledger.all_gaps())

    def check(self, summary: Summary, pages_before: int, held_before: int) -> None:
        """Checks what must hold after every run, however it ended."""
        said = summary.as_dict()
        assert said["attempted"] == sum(said[outcome] for outcome in OUTCOMES)
        assert said["saved"] == said["new"] + said["updated"]
        assert said["prompts_after"] - said["prompts_before"] == said["new"]
        assert said["prompts_before"] == held_before
        assert said["prompts_after"] == len(load_held(self.lake, VERSION).holdings)
        assert said["pages"] == self.pages() - pages_before
        assert said["branch"] == ("additional" if pages_before else "initial")
        assert said["stop_reason"] is not None
        assert said["finished_at"] is not None
        last = self.ledger.last_page(said["walk"]) if said["walk"] else None
        assert said["next_cursor"] == (last.next_cursor if last else None)
        assert said["last_page_number"] == (last.id.page if last else None)
        if not summary.earlier_listings and not summary.waiting_listings:
            assert said["more_available"] == (last is None or last.next_cursor is not None)

    def build(self, *, rebuild: bool = False, write: bool = True) -> Built:
        """Makes the tables, and puts them in the lake."""
        built = built_tables(self.lake, VERSION, rebuild=rebuild)
        if write:
            built.put_in_place(self.lake, VERSION)
        return built

    def content(self) -> dict[str, list[Json]]:
        """What the tables say of the images, made from nothing, without when and where each was seen."""
        return content_of(self.build(rebuild=True, write=False))

    def asked(self) -> list[tuple[str | None, str | None]]:
        """Limit and cursor of the listing requests so far."""
        return [
            (request.param("limit"), request.param("cursor"))
            for request in self.server.requests
            if request.path == "/api/v1/images"
        ]


def content_of(built: Built) -> dict[str, list[Json]]:
    """What tables say of the images, without when and where each was seen."""
    prompts = [
        {name: value for name, value in row.items() if name not in _WHEN_AND_WHERE}
        | {"withdrawn": row["prompt_withdrawn_at"] is not None}
        for row in built.prompts.to_pylist()
    ]
    rejected = [
        {name: value for name, value in row.items() if name not in {"page", "position"}}
        for row in built.rejected_images.to_pylist()
    ]
    return {"prompts": prompts, "rejected_images": sorted(rejected, key=str)}


def by_id(table: pa.Table) -> dict[int, Json]:
    """A table's rows by image id."""
    return {row["image_id"]: row for row in table.to_pylist()}


def same(one: Built, other: Built) -> bool:
    """Whether two builds made the same rows, times and page labels included."""
    return one.equals(other)
