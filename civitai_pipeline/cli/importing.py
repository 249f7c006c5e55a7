"""The commands that bring in what was collected elsewhere: ``import-legacy`` and ``merge-lake``."""

from __future__ import annotations

import signal
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from civitai_pipeline.cli.common import (
    EXIT_CANCELED,
    EXIT_TROUBLE,
    Misuse,
    Trouble,
    examples,
    json_option,
    mention,
    output,
    print_json,
    say,
    settings_or_misuse,
)
from civitai_pipeline.console import PLAIN_PROGRESS_EVERY_S, rows_table
from civitai_pipeline.instance import InstanceError, prepare_home
from civitai_pipeline.lake.files import LakeError
from civitai_pipeline.lake.paths import Lake

if TYPE_CHECKING:
    from collections.abc import Sequence

    from civitai_pipeline.imports.landing import VersionImport
    from civitai_pipeline.imports.legacy import FileImport
    from civitai_pipeline.settings import Settings

CANCELED = "cancelled; what has landed is kept, run again to go on"
_HEADINGS = {
    "model_version_id": "version",
    "attempted": "items",
    "new": "new",
    "updated": "updated",
    "duplicate": "duplicate",
    "no_prompt": "no prompt",
    "items_here_already": "here already",
    "prompts_after": "prompts held",
}

dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would come, and write nothing.")


class _Zone(click.ParamType[ZoneInfo]):
    """A time zone's name."""

    name = "time zone"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ZoneInfo:  # noqa: ANN401 - click's signature
        """The time zone called ``value``."""
        if isinstance(value, ZoneInfo):
            return value
        try:
            return ZoneInfo(str(value))
        except (ZoneInfoNotFoundError, ValueError, OSError):
            self.fail(f"{value!r} is not a time zone; name one like UTC or Asia/Tokyo", param, ctx)


@click.command(
    "import-legacy",
    epilog=examples("import-legacy older.db --dry-run", "import-legacy older.db --timezone Asia/Tokyo"),
)
@click.argument("paths", metavar="PATH...", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--timezone", type=_Zone(), default="UTC", show_default=True, help="The zone of the database's times.")
@dry_run_option
@json_option
def import_legacy(paths: tuple[Path, ...], *, timezone: ZoneInfo, dry_run: bool, as_json: bool) -> None:
    """Bring in databases of the older tool; nothing that was fetched is overwritten."""
    from civitai_pipeline.imports.legacy import import_older_file  # noqa: PLC0415 - loads DuckDB and Arrow
    from civitai_pipeline.imports.older_file import NoOlderFileError, OlderFileError  # noqa: PLC0415 - as the other

    settings, lake = _prepared(dry_run=dry_run)
    progress = _Progress()
    done: list[FileImport] = []
    errors: list[str] = []
    canceled = misused = False
    for path in paths:
        try:
            done.append(import_older_file(lake, path, zone=timezone, dry_run=dry_run, on_progress=progress.on_file))
        except NoOlderFileError as error:
            misused = True
            errors.append(str(error))
        except (OlderFileError, LakeError) as error:
            errors.append(str(error))
        except KeyboardInterrupt:
            canceled = True
            errors.append(CANCELED)
            break
    # Of a file that could not be read to its end, as far as it was.
    done = progress.files
    versions = [version for file in done for version in file.versions]
    if misused and not done:
        raise Misuse("; ".join(errors))
    if not canceled and not dry_run:
        canceled = bring_up_tables(settings, lake, [v.model_version_id for v in versions], errors)
    errors += [f"model version {v.model_version_id}: {v.error}" for v in versions if v.error]
    if as_json:
        files = [file.as_dict() for file in done]
        print_json({"dry_run": dry_run, "files": files, "error": "; ".join(errors) or None})
    else:
        for file in done:
            _tell_of_file(file, dry_run=dry_run)
    _end(errors, canceled=canceled)


@click.command("merge-lake", epilog=examples("merge-lake ../laptop/data --dry-run", "merge-lake ../laptop/data"))
@click.argument("path", metavar="PATH")
@dry_run_option
@json_option
def merge_lake(path: str, *, dry_run: bool, as_json: bool) -> None:
    """Bring in the pages of another lake; of an image that both hold, the newest sighting stands."""
    from civitai_pipeline.imports import merge  # noqa: PLC0415 - loads DuckDB and Arrow

    settings, lake = _prepared(dry_run=dry_run)
    progress = _Progress()
    errors: list[str] = []
    canceled = False
    try:
        merge.merge_lake(lake, Lake.at(path), dry_run=dry_run, on_progress=progress.on_version)
    except merge.NoLakeError as error:
        raise Misuse(str(error)) from None
    except LakeError as error:
        raise Trouble(str(error)) from None
    except KeyboardInterrupt:
        canceled = True
        errors.append(CANCELED)
    versions = progress.versions
    if not canceled and not dry_run:
        canceled = bring_up_tables(settings, lake, [v.model_version_id for v in versions], errors)
    errors += [f"model version {v.model_version_id}: {v.error}" for v in versions if v.error]
    if as_json:
        found = [version.as_dict() for version in versions]
        print_json({"dry_run": dry_run, "versions": found, "error": "; ".join(errors) or None})
    else:
        _tell_of_versions(versions)
    _end(errors, canceled=canceled)


def _prepared(*, dry_run: bool) -> tuple[Settings, Lake]:
    # A supervisor's stop is a cancellation like Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settings = settings_or_misuse()
    try:
        lake = Lake.at(settings.lake)
        if not dry_run:
            lake.check_writable()
    except LakeError as error:
        raise Trouble(str(error)) from None
    return settings, lake


def bring_up_tables(settings: Settings, lake: Lake, found: Sequence[int], errors: list[str]) -> bool:
    """Makes the tables of model versions follow their pages; returns whether somebody cancelled that."""
    from civitai_pipeline.imports.landing import is_behind  # noqa: PLC0415 - loads DuckDB and Arrow

    try:
        versions = [version for version in dict.fromkeys(found) if is_behind(lake, version)]
        if not versions:
            return False
        mention(f"making the tables of {len(versions)} model {'version' if len(versions) == 1 else 'versions'}")
        warnings.simplefilter("ignore")  # Dagster's notices about its own future are for developers
        from civitai_pipeline import launch  # noqa: PLC0415 - Dagster takes seconds to load

        prepare_home(settings.dagster_home)
        canceled = False
        for run in launch.bring_up_tables(versions):
            canceled = run.interrupted
            if not canceled:
                errors += [f"tables of model version {run.version}: {failure}" for failure in run.failures]
            for check in run.failed_checks:
                say(f"Warning: model version {run.version}: {check}")
    except (LakeError, InstanceError) as error:
        errors.append(str(error))
        return False
    except KeyboardInterrupt:
        canceled = True
    if canceled:
        errors.append("cancelled while tables were made; run again to finish them")
    return canceled


class _Progress:
    """Keeps what was done so far, and says now and then on standard error how far it is.

    Attributes:
        files: The files begun.
        versions: The versions begun.
    """

    def __init__(self) -> None:
        self.files: list[FileImport] = []
        self.versions: list[VersionImport] = []
        self._last = time.monotonic()

    def on_file(self, file: FileImport) -> None:
        if not any(known is file for known in self.files):
            self.files.append(file)
        self._say(f"{file.source}: {sum(v.tally.attempted for v in file.versions):,} of {file.rows:,} rows landed")

    def on_version(self, version: VersionImport) -> None:
        if not any(known is version for known in self.versions):
            self.versions.append(version)
        self._say(f"version {version.model_version_id}: {version.pages:,} pages landed")

    def _say(self, line: str) -> None:
        if time.monotonic() - self._last >= PLAIN_PROGRESS_EVERY_S:
            self._last = time.monotonic()
            mention(line)


def _tell_of_file(file: FileImport, *, dry_run: bool) -> None:
    mention(f"{file.source}: {file.rows:,} rows")
    _tell_of_versions(file.versions)
    if file.rejected:
        where = "" if dry_run or file.kept_aside is None else f", kept aside in {file.kept_aside} of the lake"
        mention(f"{file.rejected.total():,} rows could not be read{where}:")
        for reason, rows in file.rejected.most_common():
            mention(f"  {rows:,}: {reason}")
    if file.without_time:
        mention(f"{file.without_time:,} rows have no usable time and count as collected at the file's latest")


def _tell_of_versions(versions: Sequence[VersionImport]) -> None:
    rows = [{**version.as_dict(), "model_version_id": str(version.model_version_id)} for version in versions]
    output().print(rows_table(rows, _HEADINGS))


def _end(errors: list[str], *, canceled: bool) -> None:
    for error in errors:
        say(f"Error: {error}")
    if canceled:
        sys.exit(EXIT_CANCELED)
    if errors:
        sys.exit(EXIT_TROUBLE)
