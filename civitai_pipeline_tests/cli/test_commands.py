"""The command line against the stand-in, as a script uses it."""

from __future__ import annotations

import csv
import io
import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest

from civitai_pipeline.sandbox import DEMO_VERSIONS

if TYPE_CHECKING:
    from civitai_pipeline.sandbox import Sandbox

    from .conftest import Program


VERSION = str(DEMO_VERSIONS[0])
SUMMARY_KEYS = [
    "model_version_id",
    "model_id",
    "model_name",
    "version_name",
    "run_id",
    "branch",
    "listing",
    "walk",
    "stop_reason",
    "more_available",
    "pages",
    "attempted",
    "new",
    "updated",
    "duplicate",
    "no_prompt",
    "version_mismatch",
    "malformed",
    "saved",
    "planned_total",
    "reported_total",
    "prompts_before",
    "prompts_after",
    "next_cursor",
    "last_page_number",
    "requests",
    "retries",
    "waited_s",
    "elapsed_s",
    "started_at",
    "finished_at",
    "last_successful_fetch_at",
    "oldest_created_at",
    "newest_created_at",
    "sample_image_ids",
    "error",
]


def test_collecting_in_slices_and_then_looking_and_exporting(run: Program, stand_in: Sandbox, tmp_path: Path) -> None:
    done = run("collect", VERSION, "--max-items", "30", "--json")
    assert done.returncode == 0, done.stderr
    assert "items/s" in done.stderr
    first = json.loads(done.stdout)
    assert list(first) == SUMMARY_KEYS
    assert (first["stop_reason"], first["attempted"], first["pages"]) == ("max_items", 30, 1)
    assert first["run_id"]
    # Those before the run too: whether there is such a version.
    assert first["requests"] == len(stand_in.requests)
    second = json.loads(run("collect", VERSION, "--json").stdout)
    assert (second["stop_reason"], second["branch"]) == ("at_end", "additional")
    assert first["attempted"] + second["attempted"] == len(stand_in.world.image_ids(int(VERSION)))

    (state,) = json.loads(run("status", "--json").stdout)
    assert state["status"] == "at_end"
    assert state["total_collected"] == second["prompts_after"]
    assert state["attempted"] == first["attempted"] + second["attempted"]
    assert VERSION in run("status").stdout

    plan = json.loads(run("preview", VERSION, "--json").stdout)
    assert list(plan) == [
        "model_version_id",
        "model_name",
        "version_name",
        "held",
        "reported_total",
        "branch",
        "planned_total",
        "estimated_requests",
        "estimated_minutes",
    ]
    assert (plan["held"], plan["reported_total"], plan["branch"]) == (second["prompts_after"], None, "additional")

    listed = json.loads(run("versions", "9001", "--json").stdout)
    assert listed["model_id"] == 9001
    (mine,) = [row for row in listed["versions"] if row["id"] == int(VERSION)]
    assert set(mine) == {"id", "name", "base_model", "published_at", "registered", "held"}
    assert (mine["registered"], mine["held"]) == (True, second["prompts_after"])

    for kind in ("csv", "jsonl", "parquet"):
        done = run("export", VERSION, "--format", kind, "--output", str(tmp_path / f"out.{kind}"))
        assert done.returncode == 0, done.stderr
    counts = {
        "csv": len(list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text(encoding="utf-8"))))),
        "jsonl": len((tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()),
        "parquet": duckdb.from_parquet(str(tmp_path / "out.parquet")).shape[0],
    }
    assert set(counts.values()) == {second["prompts_after"]}


def test_versions_registers_only_when_asked(run: Program) -> None:
    assert not any(row["registered"] for row in json.loads(run("versions", "9001", "--json").stdout)["versions"])
    done = run("versions", "9001", "--register", "--json")
    assert all(row["registered"] for row in json.loads(done.stdout)["versions"])


@pytest.mark.parametrize("version", ["0", "-5", "abc", "1.5", "99999999999", "", "00910011"])
def test_an_id_that_is_none_is_refused_before_anything_is_asked(
    run: Program, stand_in: Sandbox, tmp_path: Path, version: str
) -> None:
    done = run("collect", "--json", "--", version)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "not a model version id" in done.stderr
    assert stand_in.requests == []
    assert not (tmp_path / "lake").exists()


def test_an_unknown_version_is_rejected_with_a_summary_and_nothing_written(run: Program, tmp_path: Path) -> None:
    done = run("collect", "123456", "--json")
    assert done.returncode == 1
    summary = json.loads(done.stdout)
    assert list(summary) == SUMMARY_KEYS
    assert summary["stop_reason"] == "rejected"
    assert "no model version 123456" in summary["error"]
    assert not (tmp_path / "lake" / "pages").exists()


def test_a_model_id_given_by_mistake_is_answered_with_its_versions(run: Program, tmp_path: Path) -> None:
    done = run("collect", "9001", "--json")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "civitai-pipeline collect 910011" in done.stderr
    assert "Harbor Light XL" in done.stderr
    assert not (tmp_path / "lake" / "pages").exists()


def test_an_unknown_model_is_one_clear_line(run: Program) -> None:
    done = run("versions", "424242", "--json")
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_unreachable_host_is_one_clear_line_and_nothing_half_written(run: Program, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    done = run("collect", VERSION, "--json", CIVITAI_BASE_URL=f"http://127.0.0.1:{port}", CIVITAI_RETRY_BUDGET="0")
    assert done.returncode == 1
    summary = json.loads(done.stdout)
    assert summary["stop_reason"] == "api_unavailable"
    assert "cannot be reached; check the network and CIVITAI_BASE_URL" in summary["error"]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "lake" / "pages").exists()


def test_a_lake_that_cannot_be_written_is_one_clear_line(run: Program, stand_in: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    done = run("collect", VERSION, CIVITAI_LAKE=str(tmp_path / "file" / "lake"))
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "CIVITAI_LAKE" in done.stderr
    assert stand_in.requests == []


@pytest.mark.parametrize(
    ("arguments", "variables", "says"),
    [
        (["collect", VERSION, "--max-itms", "3"], {}, "No such option"),
        (["collect", VERSION, "--max-items", "0"], {}, "max_items must be 1 or more"),
        (["collect", VERSION, "--page-size", "201"], {}, "page_size must be from 1 to 200"),
        (["collect", VERSION, "--max-lookups", "5"], {}, "--resolve-resources"),
        (["collect", VERSION, "--resolve-resources", "--max-lookups", "0"], {}, "max_lookups must be 1 or more"),
        (["collect", VERSION, "--sort", "random"], {}, "--sort"),
        (["collect", VERSION, "--browsing-level", "32"], {}, "--browsing-level"),
        (["collect", VERSION], {"CIVITAI_TIMEOUT": "soon"}, "CIVITAI_TIMEOUT must be a number of seconds"),
        (["collect", VERSION], {"CIVITAI_BASE_URL": "civitai.com"}, "CIVITAI_BASE_URL"),
        (["export", "--format", "xlsx", "--output", "x"], {}, "--format"),
        (["frobnicate"], {}, "No such command"),
    ],
)
def test_misuse_exits_2_with_a_line_that_says_what_to_do(
    run: Program, arguments: list[str], variables: dict[str, str], says: str
) -> None:
    done = run(*arguments, **variables)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_exporting_what_was_never_collected_says_what_to_run(run: Program, tmp_path: Path) -> None:
    done = run("export", VERSION, "--format", "csv", "--output", str(tmp_path / "out.csv"))
    assert done.returncode == 1
    assert f"civitai-pipeline collect {VERSION}" in done.stderr
    assert list(tmp_path.glob("out*")) == []


def test_every_command_explains_itself(run: Program) -> None:
    for command in (
        "collect",
        "versions",
        "preview",
        "status",
        "export",
        "import-legacy",
        "merge-lake",
        "sandbox",
        "demo",
        "dev",
    ):
        done = run(command, "--help")
        assert done.returncode == 0
        assert "Usage:" in done.stdout


def test_a_failed_check_is_told_but_the_exit_status_is_that_of_the_stop_reason(run: Program, stand_in: Sandbox) -> None:
    for image in stand_in.world.gallery(int(VERSION)):
        stand_in.world.set_meta(image.id, None)
    done = run("collect", VERSION, "--json")
    summary = json.loads(done.stdout)
    assert (done.returncode, summary["stop_reason"], summary["error"], summary["new"]) == (0, "at_end", None, 0)
    assert "Warning: check api_keeps_its_contract" in done.stderr


def test_a_lake_that_cannot_be_written_still_gives_its_one_document(run: Program, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    done = run("collect", VERSION, "--json", CIVITAI_LAKE=str(tmp_path / "file"))
    assert done.returncode == 1
    assert json.loads(done.stdout)["stop_reason"] == "lake_unavailable"


def test_damaged_records_of_runs_are_one_clear_line(run: Program, environment: dict[str, str]) -> None:
    assert run("versions", "9001").returncode == 0
    home = Path(environment["DAGSTER_HOME"])
    for rest in home.glob("history/runs.db-*"):
        rest.unlink()
    (home / "history" / "runs.db").write_bytes(b"no database" * 1000)
    for arguments in (("collect", VERSION), ("versions", "9001", "--register"), ("prune",)):
        done = run(*arguments)
        said = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
        assert done.returncode == 1, done.stderr
        assert "Traceback" not in done.stderr
        assert len(said) == 1
        assert f"records in {home} cannot be used: file is not a database (put a backup" in said[0]


def test_resources_are_looked_up_when_asked_for_and_said_beside_the_summary(
    run: Program, tmp_path: Path, stand_in: Sandbox
) -> None:
    done = run("collect", VERSION, "--resolve-resources", "--max-lookups", "3", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert list(summary) == [*SUMMARY_KEYS, "lookups"]
    assert (summary["lookups"]["stop_reason"], summary["lookups"]["asked"]) == ("max_items", 3)
    assert "Resources: 3 looked up, 3 found, 0 unknown" in done.stderr
    assert summary["requests"] + summary["lookups"]["requests"] == len(stand_in.requests)
    stand_in.faults.add("rate_limited", on="model-versions", nth=range(3, 99))
    stand_in.forget_requests()
    done = run("collect", VERSION, "--resolve-resources")
    assert done.returncode == 0, done.stderr
    assert "Warning: looking up resources rate_limited: HTTP 429" in done.stderr
    with duckdb.connect(str(tmp_path / "lake" / "civitai.duckdb"), read_only=True) as lake:
        (named,) = lake.sql("SELECT count(*) FROM prompt_resources WHERE resolved_by IS NOT NULL").fetchall()[0]
    assert named > 0
