"""What leaves the lake, read as its readers read it: Dagster's records, exports and the card of a dataset folder."""

from __future__ import annotations

import base64
import csv
import json
import re
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import dagster as dg
import pyarrow.parquet as pq
import yaml
from markdown_it import MarkdownIt

from civitai_pipeline.export.writing import FORMULA_STARTS
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.tables import read_table
from civitai_pipeline_tests.collect.stage import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from civitai_pipeline_tests.proofs.downstream import Scene

_SVG_PARTS = {"svg", "g", "path", "text"}
_PICTURE = re.compile(r"!\[\]\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)")
_SITE = re.compile(r"https://civitai\.com/content/tos")
# What GitHub and the hub make links of without any mark.
_BARE_LINK = re.compile(r"(?:https?://|www\.)[\w.]", re.IGNORECASE)


def rendered(text: str) -> str:
    """Markdown as those show it who let HTML through."""
    return str(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text))


def _entries(home: str) -> Iterator[tuple[str, dg.MetadataValue[Any]]]:
    """All metadata of all events in an instance."""
    with dg.DagsterInstance.from_config(home) as instance:
        for run in instance.get_runs():
            for record in instance.all_logs(run.run_id):
                event = record.dagster_event
                data = None if event is None else event.event_specific_data
                for holder in (data, getattr(data, "materialization", None), getattr(data, "asset_observation", None)):
                    yield from (getattr(holder, "metadata", None) or {}).items()


def read_records(scene: Scene) -> int:
    """Markdown in metadata holds our pictures and nothing else; returns how many pictures there are."""
    pictures = 0
    for name, value in _entries(scene.environment["DAGSTER_HOME"]):
        if isinstance(value, dg.UrlMetadataValue) and not (value.url or "").startswith(("http://127.0.0.1", "file:")):
            scene.trouble[f"{name} links to {value.url}"] += 1
        if not isinstance(value, dg.MarkdownMetadataValue):
            continue
        shown = _PICTURE.fullmatch(value.md_str or "")
        if shown is None:
            scene.trouble[f"{name} holds Markdown that is no picture of ours"] += 1
            continue
        pictures += 1
        for part in ET.fromstring(base64.b64decode(shown[1])).iter():  # noqa: S314 - what is looked at is ours
            tag = part.tag.rpartition("}")[2]
            if tag not in _SVG_PARTS or any(key.startswith("on") or "href" in key for key in part.attrib):
                scene.trouble[f"{name} holds a picture with <{tag} {part.attrib}>"] += 1
    if pictures < 4:
        scene.trouble["there are hardly any pictures"] += 1
    return pictures


def read_exports(scene: Scene) -> int:
    """Each format read back: the same rows to the letter, and nothing a spreadsheet would run; returns the rows."""
    (scene.folder / "out").mkdir()
    everything = ("--max-level", "31", "--include-unknown-level", "--include-withdrawn")
    for form, name in (("csv", "a.csv"), ("jsonl", "a.jsonl"), ("parquet", "a.parquet"), ("huggingface", "hf")):
        scene.run("export", str(VERSION), "--format", form, "--output", str(scene.folder / "out" / name), *everything)
    scene.run(
        "export", str(VERSION), "--format", "csv", "--bom", "--output", str(scene.folder / "out" / "b.csv"), *everything
    )
    wild = ("--min-images", "1", "--min-authors", "1", "--output", str(scene.folder / "out" / "wild"))
    scene.run("export", str(VERSION), "--format", "wildcards", *wild, *everything)
    held = read_table(scene.lake, schemas.PROMPTS, VERSION).to_pylist()
    kept = {row["image_id"]: row["prompt"] for row in held}
    _read_csv(scene, "a.csv", kept)
    _read_csv(scene, "b.csv", kept)
    lines = (scene.folder / "out" / "a.jsonl").read_bytes().split(b"\n")[:-1]
    _compare(scene, "jsonl", {row["image_id"]: row["prompt"] for row in map(json.loads, lines)}, kept)
    parquet = pq.read_table(scene.folder / "out" / "a.parquet", columns=["image_id", "prompt"]).to_pylist()
    _compare(scene, "parquet", {row["image_id"]: row["prompt"] for row in parquet}, kept)
    names = schemas.PROMPTS.columns
    for file in (scene.folder / "out" / "wild").glob("*.txt"):
        terms = file.read_text(encoding="utf-8").split("\n")
        if any(re.search(r"[{}|$#<>()\[\]:\\\r]|__", term) for term in terms):
            scene.trouble[f"{file.name} holds syntax of the wildcard extensions"] += 1
    return len(kept) * len(names)


def _read_csv(scene: Scene, name: str, kept: dict[int, str]) -> None:
    with (scene.folder / "out" / name).open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    text = {column.name for column in schemas.PROMPTS.columns if column.type == schemas.VARCHAR} | {"category"}
    for row in rows:
        for column in text & row.keys():
            # A cell that begins with one of these after what a spreadsheet skips is a formula to it.
            if (row[column] or "").startswith(FORMULA_STARTS):
                scene.trouble[f"{name}: {column} holds a formula"] += 1
    restored = {int(row["image_id"]): _restored(row["prompt"]) for row in rows}
    _compare(scene, name, restored, kept)


def _restored(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(FORMULA_STARTS) else cell


def _compare(scene: Scene, what: str, exported: dict[int, str], kept: dict[int, str]) -> None:
    if exported.keys() != kept.keys():
        scene.trouble[f"{what} holds {len(exported)} rows instead of {len(kept)}"] += 1
    changed = [image_id for image_id in exported.keys() & kept.keys() if exported[image_id] != kept[image_id]]
    if changed:
        scene.trouble[f"{what} does not keep prompts to the letter, as of {changed[0]}"] += len(changed)


def read_cards(scene: Scene) -> int:
    """The dataset card: its front matter is ours, and its Markdown has no markup or link of others; its characters."""
    text = (scene.folder / "out" / "hf" / "README.md").read_text(encoding="utf-8")
    front, body = text.removeprefix("---\n").split("\n---\n", 1)
    facts = yaml.safe_load(front)
    if set(facts) != _FRONT:
        scene.trouble[f"the front matter has keys {sorted(facts)}"] += 1
    html = rendered(body)
    for tag in re.findall(r"<(/?\w+)", html):
        if tag.strip("/") not in _CARD_TAGS:
            scene.trouble[f"the card holds <{tag}>"] += 1
    for link in re.findall(r'(?:href|src)="([^"]*)"', html):
        if not _SITE.fullmatch(link):
            scene.trouble[f"the card links to {link}"] += 1
    for line in body.splitlines():
        if _BARE_LINK.search(_SITE.sub("", line)):
            scene.trouble[f"the card holds a bare link: {line[:80]}"] += 1
    headings = re.findall(r"<h\d>([^<]*)</h\d>", html)
    if len(headings) != _HEADINGS:
        scene.trouble[f"the card has {len(headings)} headings: {headings}"] += 1
    return len(text)


_FRONT = {
    "pretty_name", "license", "license_name", "license_link", "task_categories", "tags", "size_categories", "configs",
    "dataset_info",
}  # fmt: skip
_CARD_TAGS = {
    "h1",
    "h2",
    "h3",
    "p",
    "ul",
    "li",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "code",
    "a",
    "strong",
    "em",
}
_HEADINGS = 10
