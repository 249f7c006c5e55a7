"""The commands that look after what is held: ``compact``, ``prune``, ``size``, ``backup`` and ``restore``."""

from __future__ import annotations

import os
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.filesize import decimal

from civitai_pipeline.cli.common import (
    EXIT_CANCELED,
    EXIT_TROUBLE,
    VERSION,
    Misuse,
    Trouble,
    examples,
    json_option,
    mention,
    print_json,
    say,
    settings_or_misuse,
)
from civitai_pipeline.cli.importing import bring_up_tables
from civitai_pipeline.console import PLAIN_PROGRESS_EVERY_S, rows_table
from civitai_pipeline.instance import INSTANCE_FILE, InstanceError, prepare_home, records
from civitai_pipeline.lake.files import LakeError, is_local
from civitai_pipeline.lake.locks import LockedError
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.upkeep.retention import KEEP_DAYS, KEEP_RUNS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from civitai_pipeline.lake.compaction import Compaction
    from civitai_pipeline.settings import Settings


@click.command(epilog=examples("compact", "compact 128713"))
@click.argument("versions", metavar="[VERSION]...", type=VERSION, nargs=-1)
@json_option
def compact(versions: tuple[int, ...], *, as_json: bool) -> None:
    """Put pages that were fetched again into bundles, of all versions or of some.

    Nothing of a page is changed or lost, and all tables stay as they are. A version that is being collected is left
    for the next time.
    """
    from civitai_pipeline.lake.compaction import compact as compact_version  # noqa: PLC0415 - loads slowly

    lake = _lake(settings_or_misuse())
    done: list[Compaction] = []
    try:
        done.extend(compact_version(lake, version) for version in _chosen(lake, versions))
    except LakeError as error:
        raise Trouble(str(error)) from None
    except KeyboardInterrupt:
        say("Error: cancelled; nothing is lost, run again to go on")
        sys.exit(EXIT_CANCELED)
    if as_json:
        print_json([each.as_dict() for each in done])
    else:
        rows = [
            {
                "version": str(each.model_version_id),
                "pages": each.pages,
                "folded": each.folded,
                "files": f"{each.files_before:,} → {each.files_after:,}",
                "size": f"{decimal(each.bytes_before)} → {decimal(each.bytes_after)}",
            }
            for each in done
        ]
        headings = {"version": "version", "pages": "pages", "folded": "put into bundles", "files": "files"}
        Console().print(rows_table(rows, {**headings, "size": "size"}))
    for each in done:
        if each.skipped:
            mention(f"model version {each.model_version_id} is left for the next time: {each.skipped}")
    _end([f"model version {each.model_version_id}: {each.error}" for each in done if each.error])


@click.command(epilog=examples("prune --dry-run", "prune --keep-days 30"))
@click.option(
    "--keep-days", type=click.FloatRange(min=0), default=KEEP_DAYS, show_default=True, help="Keep younger runs."
)
@click.option(
    "--keep-runs",
    type=click.IntRange(min=1),
    default=KEEP_RUNS,
    show_default=True,
    help="Keep so many runs of each job and version however old they are.",
)
@click.option("--dry-run", is_flag=True, help="Say what would go, and change nothing.")
@json_option
def prune(*, keep_days: float, keep_runs: int, dry_run: bool, as_json: bool) -> None:
    """Delete Dagster's records of old finished runs; nothing that was collected is touched."""
    settings = settings_or_misuse()
    if not (settings.dagster_home / INSTANCE_FILE).is_file():
        raise Misuse(f"there are no records of runs in {settings.dagster_home}; set DAGSTER_HOME")
    warnings.simplefilter("ignore")  # Dagster's notices about its own future are for developers
    from civitai_pipeline import pruning  # noqa: PLC0415 - Dagster takes seconds to load

    progress = _Progress()
    try:
        prepare_home(settings.dagster_home)
        with records() as instance:
            done = pruning.prune(
                instance,
                keep_days=keep_days,
                keep_runs=keep_runs,
                dry_run=dry_run,
                on_run=lambda number, runs: progress.say(f"{number:,} of {runs:,} runs deleted"),
            )
    except InstanceError as error:
        raise Trouble(str(error)) from None
    except KeyboardInterrupt:
        say("Error: cancelled; run again to go on")
        sys.exit(EXIT_CANCELED)
    if as_json:
        print_json({"dry_run": dry_run, **done.as_dict()})
    else:
        would = "would be " if dry_run else ""
        mention(f"{done.deleted:,} of {done.runs:,} finished runs {would}deleted, {decimal(done.bytes_freed)} freed")
        if done.left_over:
            mention(f"files of {done.left_over:,} runs that were deleted earlier {would}removed")
    for note in done.notes:
        say(f"Warning: {note}")


@click.command(epilog=examples("size", "size --json"))
@json_option
def size(*, as_json: bool) -> None:
    """Show what takes how much room, and what would free some of it."""
    from civitai_pipeline.care.sizes import size_of, size_of_records  # noqa: PLC0415 - loads Arrow
    from civitai_pipeline.lake.compaction import foldable  # noqa: PLC0415 - as the other

    settings = settings_or_misuse()
    lake = _lake(settings)
    try:
        found, records = size_of(lake), size_of_records(settings.dagster_home)
        files = kept = 0
        for version in found.versions:
            if version.pages:
                some, count = foldable(lake, version.model_version_id)
                files, kept = files + some, kept + count
    except LakeError as error:
        raise Trouble(str(error)) from None
    could = {"compact_files": files, "compact_bytes": kept}
    if as_json:
        print_json({"lake": str(lake.root), **found.as_dict(), "records": records.as_dict(), "could_be_folded": could})
        return
    rows = [_sizes(str(version.model_version_id), vars(version)) for version in found.versions]
    rows.append(_sizes("all", found.totals()))
    headings = {"what": "version", "pages": "landed pages", "files": "files", "bundles": "bundles", "page": "pages"}
    Console().print(rows_table(rows, {**headings, "table": "tables", "report": "reports"}))
    runs = f"Dagster's records: {records.runs:,} runs"
    others = {
        **{f"{name} of all versions" if name == "reports" else name: count for name, count in found.other.items()},
        "the lake in all": found.totals()["lake_bytes"],
        runs: records.run_bytes + records.output_bytes,
        "Dagster's records: index and ticks": records.index_bytes + records.tick_bytes,
        "Dagster's records in all": records.total_bytes,
    }
    lines = [{"what": what, "size": decimal(count)} for what, count in others.items() if count]
    Console().print(rows_table(lines, {"what": "", "size": "size"}))
    if files:
        mention(f"civitai-pipeline compact would put {files:,} files of {decimal(kept)} together into few small ones")
    mention("civitai-pipeline prune --dry-run says what old runs take; exports are yours to remove")


@click.command(epilog=examples("backup /mnt/disk/civitai", "backup s3://bucket/civitai --tables"))
@click.argument("path", metavar="PATH")
@click.option("--tables", is_flag=True, help="Copy all tables too, which restore makes anew otherwise.")
@click.option("--instance", "with_records", is_flag=True, help="Copy Dagster's records too, into PATH/dagster.")
@json_option
def backup(path: str, *, tables: bool, with_records: bool, as_json: bool) -> None:
    """Bring a copy of the lake at PATH up to date, also while collections go on.

    Landed pages never change, so only what is new since the last time is copied. Every file is read back.
    """
    from civitai_pipeline.care.backup import BackupError, back_up  # noqa: PLC0415 - loads Arrow
    from civitai_pipeline.care.records import back_up_records  # noqa: PLC0415 - as the other

    settings = settings_or_misuse()
    progress = _Progress()
    records = None
    try:
        lake, target = _lake(settings), Lake.at(path)
        if not lake.versions():
            raise Misuse(f"nothing is held in {lake.root}; set CIVITAI_LAKE")
        if with_records and not is_local(target.root):
            raise Misuse("--instance copies to a folder of this machine; leave it out, or name one")
        done = back_up(lake, target, tables=tables, on_file=lambda done: progress.say(f"{done.copied:,} files copied"))
        if with_records:
            records = back_up_records(settings.dagster_home, Path(str(target.root)) / "dagster")
    except BackupError as error:
        raise Misuse(str(error)) from None
    except LakeError as error:
        raise Trouble(str(error)) from None
    except KeyboardInterrupt:
        say("Error: cancelled; what was copied is sound, run again to go on")
        sys.exit(EXIT_CANCELED)
    if as_json:
        print_json({**done.as_dict(), "records_copied": records})
    else:
        mention(
            f"{done.copied:,} files of {decimal(done.copied_bytes)} copied to {done.target}, {done.there_already:,} "
            f"were there, {done.removed:,} are in bundles now; {sum(done.versions.values()):,} pages of "
            f"{len(done.versions):,} model versions in all"
        )
        if records is not None:
            mention(f"{records:,} files of Dagster's records copied")
    _end(done.notes)


@click.command(epilog=examples("restore /mnt/disk/civitai", "restore /mnt/disk/civitai --into data-again"))
@click.argument("path", metavar="PATH")
@click.option("--into", metavar="LAKE", help="Where to, instead of CIVITAI_LAKE.")
@json_option
def restore(path: str, *, into: str | None, as_json: bool) -> None:
    """Bring the lake back from the copy at PATH, and make its tables and reports.

    Nothing that is there is overwritten: what is missing is put beside it. Where another page stands in the place of
    one of the copy's, nothing is done.
    """
    from civitai_pipeline.care.backup import BackupError  # noqa: PLC0415 - loads Arrow
    from civitai_pipeline.care.restoring import restore as restore_lake  # noqa: PLC0415 - as the other

    if into is not None:
        # The tables are made by Dagster's job, which finds the lake by its name alone.
        os.environ["CIVITAI_LAKE"] = into
    settings = settings_or_misuse()
    progress = _Progress()
    errors: list[str] = []
    try:
        lake = _lake(settings)
        done = restore_lake(
            Lake.at(path), lake, on_file=lambda done: progress.say(f"{done.restored:,} files brought back")
        )
    except BackupError as error:
        raise Misuse(str(error)) from None
    except (LakeError, LockedError) as error:
        raise Trouble(str(error)) from None
    except KeyboardInterrupt:
        say("Error: cancelled; run again to go on")
        sys.exit(EXIT_CANCELED)
    canceled = bring_up_tables(settings, lake, list(done.versions), errors)
    if as_json:
        print_json({**done.as_dict(), "error": "; ".join(errors) or None})
    else:
        when = f"the copy of {done.made_at}" if done.made_at else "the copy"
        mention(
            f"{done.restored:,} files of {when} brought back to {done.target}, {done.there_already:,} were there; "
            f"{sum(done.versions.values()):,} pages of {len(done.versions):,} model versions are whole"
        )
    for note in done.notes:
        say(f"Warning: {note}")
    if canceled:
        sys.exit(EXIT_CANCELED)
    _end(errors)


def _sizes(what: str, row: dict[str, Any]) -> dict[str, Any]:
    return {
        "what": what,
        "pages": row["pages"],
        "files": row["page_files"] + row["bundles"],
        "bundles": row["bundles"],
        "page": decimal(row["page_bytes"] + row["bundle_bytes"]),
        "table": decimal(row["table_bytes"]),
        "report": decimal(row["report_bytes"]),
    }


def _lake(settings: Settings) -> Lake:
    try:
        return Lake.at(settings.lake)
    except LakeError as error:
        raise Trouble(str(error)) from None


def _chosen(lake: Lake, versions: Sequence[int]) -> list[int]:
    """The versions named, or all that have pages; ends the command if one of those named has none."""
    held = lake.versions()
    if unknown := [version for version in versions if version not in held]:
        raise Misuse(f"nothing of model version {unknown[0]} is held in {lake.root}")
    return list(dict.fromkeys(versions)) or held


class _Progress:
    """Says now and then on standard error how far it is."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def say(self, line: str) -> None:
        if time.monotonic() - self._last >= PLAIN_PROGRESS_EVERY_S:
            self._last = time.monotonic()
            mention(line)


def _end(errors: list[str]) -> None:
    for error in errors:
        say(f"Error: {error}")
    if errors:
        sys.exit(EXIT_TROUBLE)
