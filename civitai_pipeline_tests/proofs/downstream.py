"""Everything made of hostile items: tables, queries, pages in Chromium, Dagster's records, exports, files, commands.

One version is collected by the command line from a stand-in whose prompts, names of users, models, resources and
samplers are fragments of attacks, with categories named likewise. Then each thing made of it is read as its reader
would read it. Nothing may be executed or interpreted.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import orjson

from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.lake.reading import reading
from civitai_pipeline.sandbox.catalog import Model, ModelFile, Version
from civitai_pipeline_tests.collect.stage import VERSION, item
from civitai_pipeline_tests.proofs.bodies import Wire
from civitai_pipeline_tests.proofs.fragments import CELLS, CONTROLS, DROPPED_FILE, FRAGMENTS, MARKDOWN, MARKUP
from civitai_pipeline_tests.proofs.mutations import Hostile
from civitai_pipeline_tests.proofs.published import read_cards, read_exports, read_records
from civitai_pipeline_tests.proofs.showing import show_pages
from civitai_pipeline_tests.proofs.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from civitai_pipeline.sandbox import Sandbox

MODEL = 9001
# Each of them often enough to come into every table of what is used most.
_SHOWN_OFTEN = 14
_OFTEN = (*MARKUP, *MARKDOWN, *CELLS, "\x1b[2J", "\u202e", "{{7*7}}", "%{customdata}", "'; DROP VIEW prompts; --")
_PAGE_ITEMS = 100
_MOST_SAID = 8
ROOT = Path(__file__).parents[2]
QUERIES = re.findall(r"```sql\n([\s\S]*?)```", (ROOT / "docs" / "queries.md").read_text(encoding="utf-8"))
# What no model version's id is, wherever one is asked for.
HOSTILE_IDS = (
    "0", "-1", "01", "1.0", "1e3", "0x10", " 1", "1 ", "\u0661", "99999999999999999999", "2147483648", "", "../1",
    "1/../2",
    "910011/..", "910011'", "910011 OR 1=1", "<b>", "$(id)", "a\nb", "-rf", "NaN", "\u202e1", "1\n",
)  # fmt: skip


@dataclass
class Scene:
    """A lake made of hostile items, and the environment it was made in.

    Attributes:
        folder: Holds all of it.
        environment: The variables that commands get.
        said: What commands wrote, by their arguments.
        trouble: What does not hold.
    """

    folder: Path
    environment: dict[str, str]
    said: dict[str, str] = field(default_factory=dict)
    trouble: Counter[str] = field(default_factory=Counter)

    @property
    def lake(self) -> Lake:
        """The lake."""
        return Lake.at(self.environment["CIVITAI_LAKE"])

    def run(self, *arguments: str, status: int | None = 0) -> str:
        """Runs a command of the product; what it wrote, all of it printable."""
        done = subprocess.run(
            [sys.executable, "-m", "civitai_pipeline.cli", *arguments],
            env=self.environment,
            cwd=self.folder / "work",
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        name = " ".join(arguments)[:60]
        if status is not None and done.returncode != status:
            self.trouble[f"{name!r} ends with {done.returncode}: {done.stderr[-200:]}"] += 1
        written = done.stdout + done.stderr
        self.said[name] = written
        if controls := sorted({c for c in written if not c.isprintable() and c != "\n"}):
            self.trouble[f"{name!r} writes {controls} to the terminal"] += 1
        if "Traceback" in written:
            self.trouble[f"{name!r} shows a traceback"] += 1
        return done.stdout


def showy_items(seed: int) -> list[list[bytes]]:
    """Pages of ordinary items whose every text is an attack, and of items spoilt in any way."""
    random, source, made = Random(seed), Hostile(seed), []  # noqa: S311 - reproducible, no secret
    for number in range(len(_OFTEN) * _SHOWN_OFTEN):
        often, other = _OFTEN[number % len(_OFTEN)], random.choice(FRAGMENTS)
        prompt = f"{often}, soft light {other}, golden hour, {often}"
        meta = {
            "prompt": prompt,
            "negativePrompt": f"{often}, blurry {other}",
            "sampler": often,
            "Schedule type": often,
            "Model": often,
            "steps": 20 + number % 3,
            "cfgScale": 7,
            "Version": often,
            "resources": [
                {"type": "lora", "name": often, "weight": 0.8},
                {"type": "lora", "name": f"{other}{number % 9}", "weight": 0.5},
                {"type": often, "name": often},
                {"type": "model", "name": f"checkpoint {often}"},
            ],
        }
        fields = {
            "meta": meta,
            "username": f"{often}{number % 3}",
            "baseModel": often,
            "nsfwLevel": often,
            "url": often,
        }
        moment = f"2026-0{1 + number % 8}-{1 + number % 28:02}T09:15:30.123Z"
        made.append(orjson.dumps(_sound(item(5_000_000 + number) | {"createdAt": moment} | fields)))
    made += source.page(400)
    random.shuffle(made)
    return [made[start : start + _PAGE_ITEMS] for start in range(0, len(made), _PAGE_ITEMS)]


def _sound(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """The value without lone surrogates, which orjson does not write."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_sound(one) for one in value]
    return {key: _sound(one) for key, one in value.items()} if isinstance(value, dict) else value


def hostile_names(server: Sandbox) -> None:
    """Gives the model and its versions names that are attacks."""
    name = "".join((*MARKUP[:4], *MARKDOWN[:2], *CONTROLS[2:5], "| a", CELLS[0]))
    words = tuple(_sound(text) for text in FRAGMENTS[:40])
    files = (ModelFile(1, f"../{DROPPED_FILE}", 1.0, {"AutoV2": "<b>"}),)
    server.world.add_version(
        MODEL,
        VERSION,
        model=Model(MODEL, name, "<b>Checkpoint</b>", creator=name, tags=words, description=MARKUP[0]),
        version=Version(VERSION, MODEL, f"{name} v1", f"{MARKUP[2]}{CONTROLS[2]}", 1_700_000_000_000, words, files),
    )


def taxonomy(folder: Path) -> Path:
    """Categories whose names are attacks, with words that prompts use."""
    names = (MARKUP[0], MARKUP[2], "../../" + DROPPED_FILE, "=1+1", "[x](javascript:1)", "| a | b |", "NSFW", "'; --")
    lists = (
        f'[categories.{orjson.dumps(name).decode()}]\nstrong = ["{word}"]\n'
        for name, word in zip(names, _WORDS, strict=True)
    )
    path = folder / "taxonomy.toml"
    path.write_text('version = "hostile <b>"\n' + "\n".join(lists), encoding="utf-8")
    return path


_WORDS = ("soft light", "golden hour", "script", "drop view", "style", "press me", "svg", "blurry")


def collected(server: Sandbox, folder: Path) -> Scene:
    """Collects the version by the command line, with checks, tables, views and reports."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CIVITAI_", "DAGSTER_"))}
    (folder / "work").mkdir(parents=True)
    environment = {
        **inherited,
        "CIVITAI_BASE_URL": server.url,
        "CIVITAI_LAKE": str(folder / "lake"),
        "CIVITAI_MIN_REQUEST_INTERVAL": "0",
        "CIVITAI_RETRY_BUDGET": "0",
        "CIVITAI_TAXONOMY": str(taxonomy(folder)),
        "DAGSTER_HOME": str(folder / "dagster"),
    }
    scene = Scene(folder, environment)
    summary = orjson.loads(scene.run("-v", "collect", str(VERSION), "--json") or b"{}")
    if summary.get("stop_reason") != "at_end":
        scene.trouble[f"the collection says {summary.get('stop_reason')}: {summary.get('error')}"] += 1
    return scene


def ask(scene: Scene) -> int:
    """Every query of the documents, and the commands that show names and prompts; returns how many."""
    with reading(scene.lake) as reader:
        for query in QUERIES:
            for answer in reader.answers(query):
                for _ in answer.rows:
                    pass
        views = list(reader.views())
        for view in views:
            for answer in reader.answers(f"FROM {view}"):
                for _ in answer.rows:
                    pass
    if "prompts" not in views:
        scene.trouble["a view is gone"] += 1
    for arguments in (
        ("status",),
        ("status", str(VERSION)),
        ("preview", str(VERSION)),
        ("versions", str(MODEL)),
        ("sql", "FROM prompts"),
        ("sql", "SELECT username, sampler, base_model, prompt FROM prompts"),
        ("sql", "SELECT resource_name FROM prompt_resources"),
        ("sql", "FROM model_version_info"),
    ):
        scene.run(*arguments)
    scene.run("collect", str(MODEL), status=2)
    return len(QUERIES) + len(scene.said)


def refuse_ids(scene: Scene, server: Sandbox) -> int:
    """Ids that are none, at every command that takes one: refused before anything is asked or written."""
    before = _files(scene.folder)
    server.forget_requests()
    commands = (
        ("collect",),
        ("preview",),
        ("status",),
        ("versions",),
        ("export", "--format", "csv", "--output", "x.csv"),
    )
    for number, hostile in enumerate(HOSTILE_IDS):
        # Each takes seconds to start, and all take the same kind of argument.
        command = commands[number % len(commands)]
        scene.run(command[0], *command[1:], "--", hostile, status=2)
    if server.requests:
        scene.trouble["an id that is none was asked for"] += 1
    if changed := sorted(_files(scene.folder) ^ before):
        scene.trouble[f"an id that is none left files: {changed[:3]}"] += 1
    return len(HOSTILE_IDS)


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# What files the product makes may be called; anything else came out of a name or a prompt.
_EXPECTED = re.compile(
    r"taxonomy\.toml|work/\.civitai.*|dagster/.*|lake/(?:pages/\d+/\d{4}/\d{6}\.json\.zst|\w+/\d+\.parquet|civitai\.duckdb"
    r"|reports/(?:index\.html|plotly\.min\.js|\d+(?:-explorer)?\.html|\d+-prompts-[0-9a-f]+\.js)|\.locks/\w+|\.keys/authors"
    r"|lookups/.*)|out/(?:\w+\.(?:csv|jsonl|parquet)|hf/(?:README\.md|[\w.]+\.json|data/\w+-\d{5}-of-\d{5}\.parquet)"
    r"|wild/[\w-]+\.(?:txt|json)|(?:hf|wild)/\.[\w.-]+)"
)


def look_for_files(scene: Scene) -> int:
    """No file has a name that we did not give it, and none came to be elsewhere; returns how many there are."""
    if strange := sorted(name for name in _files(scene.folder) if not _EXPECTED.fullmatch(name)):
        scene.trouble[f"files with names of others: {strange[:5]}"] += len(strange)
    places = (scene.folder.parent, Path("/tmp"), Path.cwd(), Path.home())  # noqa: S108 - where the attacks point
    if any((place / DROPPED_FILE).exists() for place in places):
        scene.trouble[f"{DROPPED_FILE} has come to be"] += 1
    return len(_files(scene.folder))


def prove_downstream(seed: int, folder: Path) -> list[Verdict]:
    """Collects once and reads all that came of it."""
    with Wire(showy_items(seed), Random(seed)) as server:  # noqa: S311 - no secret
        hostile_names(server)
        steps: dict[str, Callable[[Scene], int]] = {
            "queries and commands": ask,
            "pages in Chromium": show_pages,
            "Dagster's records": read_records,
            "exports": read_exports,
            "cards": read_cards,
            "ids that are none": lambda scene: refuse_ids(scene, server),
            "files": look_for_files,
        }
        return list(_verdicts(steps, server, folder))


def _verdicts(steps: dict[str, Callable[[Scene], int]], server: Sandbox, folder: Path) -> Iterator[Verdict]:
    started = time.monotonic()
    scene = collected(server, folder)
    yield _verdict(scene, "collection of hostile names", f"{len(_OFTEN)} attacks in every field", started)
    for name, step in steps.items():
        started = time.monotonic()
        scene.trouble.clear()
        count = step(scene)
        yield _verdict(scene, f"downstream: {name}", f"{count:,}", started)


def _verdict(scene: Scene, what: str, how_many: str, started: float) -> Verdict:
    said = tuple(f"{count} x {problem}" for problem, count in scene.trouble.most_common(_MOST_SAID))
    return Verdict(what, how_many, problems=said, seconds=time.monotonic() - started)
