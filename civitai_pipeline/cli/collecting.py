"""The ``collect`` command."""

from __future__ import annotations

import signal
import sys
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import click

from civitai_pipeline.civitai.failures import ApiFailure, FailureKind
from civitai_pipeline.civitai.listing import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, Sort
from civitai_pipeline.cli.common import (
    EXIT_CANCELED,
    EXIT_TROUBLE,
    VERSION,
    Misuse,
    Trouble,
    client,
    examples,
    json_option,
    mention,
    notices,
    output,
    point_to_versions,
    print_json,
    say,
    settings_or_misuse,
)
from civitai_pipeline.console import ConsoleProgress, summary_table
from civitai_pipeline.instance import InstanceError, prepare_home
from civitai_pipeline.lake.files import LakeError
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.settings import ALL_BROWSING_LEVELS, Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from civitai_pipeline.civitai.client import CivitaiClient
    from civitai_pipeline.collect.options import CollectOptions, LookupOptions


@click.command(
    epilog=examples(
        "collect 128713 --max-items 500              # a first taste",
        "collect 128713                              # all of it, and later what is new",
        "collect 128713 --browsing-level 1 --browsing-level 2",
        "collect 128713 --max-minutes 30 --json      # for a script",
    )
)
@click.argument("version", type=VERSION)
@click.option("--max-items", type=int, help="Stop at the first page boundary at or past this many items.")
@click.option("--max-minutes", type=float, help="Stop at the first page boundary past this many minutes.")
@click.option(
    "--sort",
    type=click.Choice([sort.flag for sort in Sort]),
    default=Sort.OLDEST.flag,
    show_default=True,
    help="Order to walk in; only 'oldest' can be continued for ever.",
)
@click.option(
    "--browsing-level",
    "browsing_levels",
    type=click.IntRange(1, ALL_BROWSING_LEVELS),
    multiple=True,
    help="Maturity to ask for: a sum of 1 PG, 2 PG-13, 4 R, 8 X, 16 XXX; given several times, each is a listing of "
    "its own.  [default: CIVITAI_BROWSING_LEVEL or 1]",
)
@click.option("--strict-version-match", is_flag=True, help="Accept only images that name the version as checkpoint.")
@click.option("--append-only", is_flag=True, help="Never change a row already held.")
@click.option("--restart", is_flag=True, help="Walk the listing anew; nothing held is lost.")
@click.option("--start-cursor", help="Start a new walk at this cursor.")
@click.option(
    "--page-size", type=int, default=DEFAULT_PAGE_SIZE, show_default=True, help=f"Items a page, up to {MAX_PAGE_SIZE}."
)
@click.option(
    "--resolve-resources", is_flag=True, help="Ask the API for the names of resources given by id or hash alone."
)
@click.option("--max-lookups", type=int, help="Resources to ask about, those used most first.  [default: 500]")
@json_option
@click.pass_context
def collect(ctx: click.Context, /, version: int, *, as_json: bool, **choices: Any) -> None:  # noqa: ANN401 - click's options
    """Collect a model version's prompts, from where the last run stopped."""
    # A supervisor's stop is a cancellation like Ctrl-C: the summary is written and the run can go on later.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settings = settings_or_misuse()
    lookups = _lookup_options(resolve=choices.pop("resolve_resources"), most=choices.pop("max_lookups"))
    options = _collect_options(settings, choices)
    lake = Lake.at(settings.lake)
    refuse = partial(_stop_before_a_run, settings, version, options, as_json=as_json)
    try:
        lake.check_writable()
        _refuse_second_writer(lake, version, refuse)
        _refuse_unknown_version(client(settings), version, refuse)
        verbose = bool(ctx.parent and ctx.parent.params["verbose"])
        summary, interrupted = _run_collect(settings, version, options, lookups, refuse, verbose=verbose)
    except LakeError as error:
        refuse("lake_unavailable", str(error))
    except KeyboardInterrupt:
        refuse("canceled", "cancelled before a page was asked for; run again to go on")
    _report_summary(summary, as_json=as_json)
    if not as_json:
        for what, path in (("report", lake.reports / f"{version}.html"), ("database", lake.database)):
            if path.exists():
                mention(f"The {what}: {path}")
    if interrupted:
        sys.exit(EXIT_CANCELED)
    _exit_for(summary)


def _collect_options(settings: Settings, choices: dict[str, Any]) -> CollectOptions:
    from civitai_pipeline.collect.options import CollectOptions  # noqa: PLC0415 - as the others

    sort = Sort.from_flag(choices.pop("sort"))
    try:
        return CollectOptions(sort=sort, browsing_level=settings.browsing_level, **choices)
    except ValueError as error:
        raise Misuse(str(error)) from None


def _lookup_options(*, resolve: bool, most: int | None) -> LookupOptions | None:
    from civitai_pipeline.collect.options import LookupOptions  # noqa: PLC0415 - as the others

    if not resolve:
        if most is not None:
            raise Misuse("--max-lookups says how far --resolve-resources goes; give both, or neither")
        return None
    try:
        return LookupOptions() if most is None else LookupOptions(max_lookups=most)
    except ValueError as error:
        raise Misuse(str(error)) from None


def _refuse_second_writer(lake: Lake, version: int, refuse: Callable[[str, str], NoReturn]) -> None:
    """Ends the command if another process is collecting the version, rather than wait for its turn at the API."""
    from civitai_pipeline.lake.locks import LockedError, sole_writer  # noqa: PLC0415 - with the rest of the lake

    try:
        with sole_writer(lake, version):
            pass
    except LockedError as error:
        refuse("conflict", str(error))


def _refuse_unknown_version(api: CivitaiClient, version: int, refuse: Callable[[str, str], NoReturn]) -> None:
    """Ends the command if the API knows no such version, before anything is written."""
    try:
        api.model_version(version)
    except ApiFailure as failure:
        if failure.kind is not FailureKind.NOT_FOUND:
            return
        try:
            model = api.model(version)
        except ApiFailure:
            error = (
                f"there is no model version {version} on the site: {failure}; look at the address of the model's page"
            )
            refuse("rejected", error)
        point_to_versions(model, "collect")


def _stop_before_a_run(
    settings: Settings, version: int, options: CollectOptions, reason: str, error: str, *, as_json: bool
) -> NoReturn:
    """Reports a collection that ended before there was a run to record."""
    from civitai_pipeline.collect.collector import Collector  # noqa: PLC0415 - loads DuckDB and Arrow
    from civitai_pipeline.collect.summary import StopReason  # noqa: PLC0415 - loads DuckDB and Arrow

    collector = Collector(client(settings), Lake.at(settings.lake), version, options)
    summary = collector.refused(StopReason(reason), error).as_dict()
    if as_json:
        print_json(summary)
    say(f"Error: {error}")
    _exit_for(summary)
    raise AssertionError("unreachable: a refusal is no success")


def _run_collect(
    settings: Settings,
    version: int,
    options: CollectOptions,
    lookups: LookupOptions | None,
    refuse: Callable[[str, str], NoReturn],
    *,
    verbose: bool,
) -> tuple[dict[str, Any], bool]:
    warnings.simplefilter("ignore")  # Dagster's notices about its own future are for developers
    from civitai_pipeline import launch  # noqa: PLC0415 - Dagster takes seconds to load

    progress = ConsoleProgress(notices)
    try:
        prepare_home(settings.dagster_home)
        log_level = "INFO" if verbose else "CRITICAL"
        run = launch.collect(version, options, progress, lookups=lookups, log_level=log_level, on_wait=mention)
    except launch.ConflictError as error:
        refuse("conflict", str(error))
    except InstanceError as error:
        raise Trouble(str(error)) from None
    finally:
        progress.close()
    if run.interrupted and run.summary is None:
        raise KeyboardInterrupt
    if run.summary is None:
        raise Trouble("; ".join(run.failures) or "the run failed before it began; see it in the Dagster UI")
    for check in run.failed_checks:
        say(f"Warning: {check}")
    if run.interrupted:
        run.summary["error"] = run.summary["error"] or "cancelled while tables were made; run again to finish them"
    later = [failure for failure in run.failures if not failure.startswith("image_pages: ")]
    if later and not run.summary["error"]:
        run.summary["error"] = "; ".join(later)
    if run.lookups is not None:
        run.summary["lookups"] = run.lookups
        mention(
            "Resources: {asked:,} looked up, {known:,} found, {unknown:,} unknown, {left:,} left".format(**run.lookups)
        )
        if run.lookups["error"]:
            say(f"Warning: looking up resources {run.lookups['stop_reason']}: {run.lookups['error']}")
    return run.summary, run.interrupted


def _report_summary(summary: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(summary)
    else:
        output().print(summary_table([summary]))
    if summary["error"]:
        say(f"Error: {summary['error']}")


def _exit_for(summary: dict[str, Any]) -> None:
    from civitai_pipeline.collect.summary import StopReason  # noqa: PLC0415 - loads DuckDB and Arrow

    reason = summary["stop_reason"]
    if reason == StopReason.CANCELED:
        sys.exit(EXIT_CANCELED)
    if summary["error"] or reason is None or not StopReason(reason).is_success:
        sys.exit(EXIT_TROUBLE)
