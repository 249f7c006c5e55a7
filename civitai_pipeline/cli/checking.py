"""The command ``check``: whether a lake is sound, and what mends it."""

from __future__ import annotations

import signal
import sys
import time
import warnings
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

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
from civitai_pipeline.console import PLAIN_PROGRESS_EVERY_S
from civitai_pipeline.instance import INSTANCE_FILE, InstanceError, prepare_home
from civitai_pipeline.lake.files import LakeError
from civitai_pipeline.lake.paths import Lake

if TYPE_CHECKING:
    from collections.abc import Sequence

    from civitai_pipeline.care.findings import Finding
    from civitai_pipeline.settings import Settings


@click.command(epilog=examples("check", "check 128713 --repair", "check --json"))
@click.argument("versions", metavar="[VERSION]...", type=VERSION, nargs=-1)
@click.option(
    "--repair",
    is_flag=True,
    help="Set damaged pages aside for the next collect to fetch again, and make damaged tables anew from pages.",
)
@json_option
def check(versions: tuple[int, ...], *, repair: bool, as_json: bool) -> None:
    """Verify the lake: every page, table, look-up, the database.

    Of all model versions, or of those given. Only reads unless told to repair; runs may go on meanwhile.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settings = settings_or_misuse()
    try:
        checking = _Checking(settings, versions)
        found = checking.look()
        left, troubles = checking.mend(found) if repair and found else (found, [])
    except (LakeError, InstanceError) as error:
        raise Trouble(str(error)) from None
    except KeyboardInterrupt:
        say("Error: cancelled; what was repaired stays so")
        sys.exit(EXIT_CANCELED)
    # What was mended is told by another finding at the same place: a damaged page by the gap it left.
    mended = [finding for finding in found if finding not in left]
    if as_json:
        print_json(
            [finding.as_dict() | {"repaired": True} for finding in mended]
            + [finding.as_dict() | {"repaired": False} for finding in left]
        )
    else:
        for finding in left:
            click.echo(str(finding))
        if not left:
            click.echo(
                "the lake is sound" if not mended else f"the lake is sound; {len(mended)} findings were repaired"
            )
    for trouble in troubles:
        say(f"Error: {trouble}")
    if left or troubles:
        sys.exit(EXIT_TROUBLE)


class _Checking:
    """One call of the command."""

    def __init__(self, settings: Settings, versions: Sequence[int]) -> None:
        from civitai_pipeline.care.check import versions_of  # noqa: PLC0415 - loads DuckDB and Arrow

        self._settings = settings
        self._lake = Lake.at(settings.lake)
        if not self._lake.root.is_dir():
            raise Misuse(f"there is no lake at {self._lake.root}; set CIVITAI_LAKE to the folder that holds it")
        known = versions_of(self._lake)
        for version in versions:
            if version not in known:
                raise Misuse(f"the lake at {self._lake.root} holds nothing of model version {version}")
        self._versions = sorted(set(versions)) or known
        self._last = time.monotonic()

    def look(self) -> list[Finding]:
        """The findings, but for what is nothing while a run goes on."""
        from civitai_pipeline.care.check import check_lake, standing_findings  # noqa: PLC0415 - as above

        findings = check_lake(self._lake, self._versions, on_page=self._on_page, on_version=self._on_version)
        if not any(finding.passes for finding in findings):
            return findings
        standing = standing_findings(findings, self._under_way())
        if len(standing) < len(findings):
            mention(
                f"{len(findings) - len(standing)} findings left out, because a run is under way; check again after it"
            )
        return standing

    def _under_way(self) -> set[int]:
        if not (self._settings.dagster_home / INSTANCE_FILE).is_file():
            return set()
        self._prepare()
        from civitai_pipeline import launch  # noqa: PLC0415 - Dagster takes seconds to load

        return launch.under_way()

    def _prepare(self) -> None:
        warnings.simplefilter("ignore")  # Dagster's notices about its own future are for developers
        prepare_home(self._settings.dagster_home)

    def mend(self, found: Sequence[Finding]) -> tuple[list[Finding], list[str]]:
        """Repairs what can be; what is left then, and what went wrong."""
        from civitai_pipeline.care import mending  # noqa: PLC0415 - as above
        from civitai_pipeline.lake.locks import LockedError, sole_writer  # noqa: PLC0415 - as above

        troubles: list[str] = []
        self._lake.check_writable()
        with ExitStack() as held:
            free = []
            for version in dict.fromkeys(finding.version for finding in found if finding.version is not None):
                try:
                    held.enter_context(sole_writer(self._lake, version))
                except LockedError as error:
                    troubles.append(f"model version {version} is left as it is: {error}")
                    continue
                free.append(version)
                for line in mending.mend_version(self._lake, version, [f for f in found if f.version == version]):
                    mention(line)
            self._make_tables(found, free, troubles)
        try:
            for line in mending.mend_beside(self._lake, self._beside(found)):
                mention(line)
        except LockedError as error:
            troubles.append(str(error))
        return self.look(), troubles

    def _beside(self, found: Sequence[Finding]) -> list[Finding]:
        from civitai_pipeline.care.beside import check_beside  # noqa: PLC0415 - as above

        # Again, because the tables made anew have brought the database up to them.
        return check_beside(self._lake, tables_are_sound=True) if any(f.version is None for f in found) else []

    def _make_tables(self, found: Sequence[Finding], free: Sequence[int], troubles: list[str]) -> None:
        from civitai_pipeline.care.findings import Kind  # noqa: PLC0415 - as above
        from civitai_pipeline.derive.prompt_tables import STEP_TABLES  # noqa: PLC0415 - as above

        broken = {finding.version: set[str]() for finding in found if finding.kind is Kind.TABLE}
        for finding in found:
            if finding.kind is Kind.TABLE and finding.table is not None:
                broken[finding.version].add(finding.table)
        if not broken:
            return
        self._prepare()
        from civitai_pipeline import launch  # noqa: PLC0415 - Dagster takes seconds to load

        from_pages = {table.name for table in STEP_TABLES}
        for anew in (True, False):
            versions = [v for v in free if v in broken and bool(broken[v] & from_pages) is anew]
            if not versions:
                continue
            mention(
                f"making the tables of {len(versions)} model {'version' if len(versions) == 1 else 'versions'} anew"
            )
            for run in launch.bring_up_tables(versions, rebuild=anew):
                if run.interrupted:
                    raise KeyboardInterrupt
                troubles += [f"tables of model version {run.version}: {failure}" for failure in run.failures]

    def _on_page(self, version: int, pages: int) -> None:
        if time.monotonic() - self._last >= PLAIN_PROGRESS_EVERY_S:
            self._last = time.monotonic()
            mention(f"version {version}: {pages:,} pages looked at")

    def _on_version(self, version: int, pages: int) -> None:
        mention(f"version {version}: {pages:,} pages and its tables looked at")
