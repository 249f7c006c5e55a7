"""The command line: reads arguments, calls the packages beside it, prints what they say.

Standard output carries the answer (with ``--json`` exactly one document), standard error everything else.
Dagster is imported only by the commands that need it: it takes seconds to load.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from rich.console import Console

from civitai_pipeline.civitai.failures import ApiFailure, FailureKind
from civitai_pipeline.civitai.listing import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, Sort, parse_id
from civitai_pipeline.console import ConsoleProgress, rows_table, summary_table
from civitai_pipeline.lake.files import LakeError
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.settings import ALL_BROWSING_LEVELS, Settings, SettingsError, load_settings

if TYPE_CHECKING:
    from civitai_pipeline.civitai.client import CivitaiClient
    from civitai_pipeline.civitai.payloads import Model
    from civitai_pipeline.collect.collector import CollectOptions

EXIT_TROUBLE = 1
EXIT_USAGE = 2
EXIT_CANCELED = 130

errors = Console(stderr=True)


class Trouble(click.ClickException):
    """Something outside the command went wrong; one line says what and what to do."""

    exit_code = EXIT_TROUBLE

    def show(self, file: Any = None) -> None:  # noqa: ANN401, ARG002 - click's signature
        """Prints the line on standard error."""
        errors.print(f"Error: {self.message}", markup=False, highlight=False, soft_wrap=True)


class Misuse(Trouble):
    """The command was given something it cannot use."""

    exit_code = EXIT_USAGE


class IdParam(click.ParamType[int]):
    """A model's or model version's id."""

    def __init__(self, what: str) -> None:
        self.name = what

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401 - click's signature
        """The id that ``value`` spells."""
        try:
            return parse_id(str(value), self.name)
        except ValueError as error:
            self.fail(str(error), param, ctx)


VERSION = IdParam("model version id")
MODEL = IdParam("model id")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="civitai-pipeline")
@click.option("-v", "--verbose", is_flag=True, help="Say more on standard error.")
def main(*, verbose: bool) -> None:
    """Turns CivitAI's public API into a complete, trustworthy dataset of image-generation prompts."""
    handler = logging.StreamHandler()
    # On the handler, because Dagster sets the level of the loggers that it keeps in the event log.
    handler.setLevel(logging.INFO if verbose else logging.ERROR)
    logging.basicConfig(handlers=[handler], format="%(levelname)s %(message)s", level=logging.INFO)


def _settings() -> Settings:
    try:
        return load_settings()
    except SettingsError as error:
        raise Misuse(str(error)) from None


def _client(settings: Settings) -> CivitaiClient:
    # The same client that the assets use in this process, so that spacing and look-ups are shared.
    from civitai_pipeline.defs.resources import client_for  # noqa: PLC0415 - Dagster takes seconds to load

    return client_for(settings)


def _print_json(document: object) -> None:
    click.echo(json.dumps(document, ensure_ascii=False, indent=2, default=_json_default))


def _json_default(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")


@main.command()
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
    type=click.IntRange(1, ALL_BROWSING_LEVELS),
    help="Maturity to ask for: a sum of 1 PG, 2 PG-13, 4 R, 8 X, 16 XXX.  [default: CIVITAI_BROWSING_LEVEL or 1]",
)
@click.option("--strict-version-match", is_flag=True, help="Accept only images that name the version as checkpoint.")
@click.option("--append-only", is_flag=True, help="Never change a row already held.")
@click.option("--restart", is_flag=True, help="Walk the listing anew; nothing held is lost.")
@click.option(
    "--page-size", type=int, default=DEFAULT_PAGE_SIZE, show_default=True, help=f"Items a page, up to {MAX_PAGE_SIZE}."
)
@json_option
@click.pass_context
def collect(ctx: click.Context, /, version: int, *, as_json: bool, **choices: Any) -> None:  # noqa: ANN401 - click's options
    r"""Collect the prompts of model version VERSION, from where the last run stopped.

    \b
    civitai-pipeline collect 128713 --max-items 500     a first taste
    civitai-pipeline collect 128713                     all of it, and later what is new
    """
    settings = _settings()
    options = _collect_options(settings, choices)
    lake = Lake.at(settings.lake)
    try:
        lake.check_writable()
    except LakeError as error:
        raise Trouble(str(error)) from None
    _refuse_unknown_version(_client(settings), version, options, as_json=as_json)
    summary = _run_collect(settings, version, options, verbose=bool(ctx.parent and ctx.parent.params["verbose"]))
    _report_summary(summary, as_json=as_json)
    if not as_json:
        errors.print(
            f"The report: {lake.reports / f'{version}.html'}\nThe database: {lake.database}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    _exit_for(summary)


def _collect_options(settings: Settings, choices: dict[str, Any]) -> CollectOptions:
    from civitai_pipeline.collect.collector import CollectOptions  # noqa: PLC0415 - loads DuckDB and Arrow

    sort, level = Sort.from_flag(choices.pop("sort")), choices.pop("browsing_level") or settings.browsing_level
    try:
        return CollectOptions(sort=sort, browsing_level=level, **choices)
    except ValueError as error:
        raise Misuse(str(error)) from None


def _refuse_unknown_version(client: CivitaiClient, version: int, options: CollectOptions, *, as_json: bool) -> None:
    """Ends the command if the API knows no such version, before anything is written."""
    try:
        client.model_version(version)
    except ApiFailure as failure:
        if failure.kind is not FailureKind.NOT_FOUND:
            return
        try:
            model = client.model(version)
        except ApiFailure:
            _reject(version, options, failure, as_json=as_json)
        _point_to_versions(model)


def _point_to_versions(model: Model) -> NoReturn:
    errors.print(
        f"Error: {model.id} is the id of a model, {model.name}, not of a model version. Its versions:",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    for version in model.versions:
        errors.print(
            f"  civitai-pipeline collect {version.id}    {version.name} ({version.base_model})",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    sys.exit(EXIT_USAGE)


def _reject(version: int, options: CollectOptions, failure: ApiFailure, *, as_json: bool) -> NoReturn:
    from civitai_pipeline.collect.summary import StopReason, Summary  # noqa: PLC0415 - loads DuckDB and Arrow

    now = datetime.now(UTC)
    summary = Summary(
        model_version_id=version,
        run_id=None,
        started_at=now,
        finished_at=now,
        listing=options.listing(version).as_dict(),
        max_items=options.max_items,
        stop_reason=StopReason.REJECTED,
        error=f"there is no model version {version} on the site: {failure}; look at the address of the model's page",
    )
    _report_summary(summary.as_dict(), as_json=as_json)
    sys.exit(EXIT_TROUBLE)


def _run_collect(settings: Settings, version: int, options: CollectOptions, *, verbose: bool) -> dict[str, Any]:
    warnings.simplefilter("ignore")  # Dagster's notices about its own future are for developers
    from civitai_pipeline import launch  # noqa: PLC0415 - Dagster takes seconds to load

    progress = ConsoleProgress(errors)
    try:
        launch.prepare_home(settings.dagster_home)
        run = launch.collect(version, options, progress, log_level="INFO" if verbose else "CRITICAL")
    except launch.InstanceError as error:
        raise Trouble(str(error)) from None
    except KeyboardInterrupt:
        errors.print("Cancelled; what has landed is kept, run again to go on.")
        sys.exit(EXIT_CANCELED)
    finally:
        progress.close()
    if run.summary is None:
        raise Trouble("; ".join(run.failures) or "the run failed before it began; see it in the Dagster UI")
    for failure in run.failures:
        if not failure.startswith("image_pages: "):
            errors.print(f"Error: {failure}", markup=False, highlight=False, soft_wrap=True)
            run.summary["error"] = run.summary["error"] or failure
    return run.summary


def _report_summary(summary: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        _print_json(summary)
    else:
        Console().print(summary_table([summary]))
    if summary["error"]:
        errors.print(f"Error: {summary['error']}", markup=False, highlight=False, soft_wrap=True)


def _exit_for(summary: dict[str, Any]) -> None:
    from civitai_pipeline.collect.summary import StopReason  # noqa: PLC0415 - loads DuckDB and Arrow

    reason = summary["stop_reason"]
    if reason == StopReason.CANCELED:
        sys.exit(EXIT_CANCELED)
    if summary["error"] or reason is None or not StopReason(reason).is_success:
        sys.exit(EXIT_TROUBLE)


@main.command()
@click.argument("model", type=MODEL)
@click.option("--register", is_flag=True, help="Make each version a partition in Dagster.")
@json_option
def versions(model: int, *, register: bool, as_json: bool) -> None:
    """List the published versions of model MODEL."""
    settings = _settings()
    try:
        found = _client(settings).model(model)
    except ApiFailure as failure:
        raise Trouble(f"model {model} could not be asked for: {failure}") from None
    from civitai_pipeline import launch  # noqa: PLC0415 - Dagster takes seconds to load
    from civitai_pipeline.derive.prompt_tables import load_held  # noqa: PLC0415 - loads DuckDB and Arrow

    try:
        launch.prepare_home(settings.dagster_home)
        registered = launch.registered([v.id for v in found.versions], register=register)
        lake = Lake.at(settings.lake)
        rows = [
            {
                "id": v.id,
                "name": v.name,
                "base_model": v.base_model,
                "published_at": v.published_at,
                "registered": v.id in registered,
                "held": len(load_held(lake, v.id).holdings),
            }
            for v in found.versions
        ]
    except (LakeError, launch.InstanceError) as error:
        raise Trouble(str(error)) from None
    if as_json:
        _print_json({"model_id": found.id, "model_name": found.name, "versions": rows})
        return
    headings = {
        "id": "version",
        "name": "name",
        "base_model": "base model",
        "published_at": "published",
        "registered": "registered",
        "held": "prompts held",
    }
    console = Console()
    console.print(f"{found.name} (model {found.id})", markup=False, highlight=False)
    console.print(rows_table([{**row, "id": str(row["id"])} for row in rows], headings))


@main.command()
@click.argument("version", type=VERSION)
@click.option("--max-items", type=click.IntRange(min=1), help="The limit the run would be given.")
@json_option
def preview(version: int, *, max_items: int | None, as_json: bool) -> None:
    """Say what a collection of model version VERSION would do."""
    settings = _settings()
    from civitai_pipeline.collect.preview import preview_collection  # noqa: PLC0415 - loads DuckDB and Arrow

    try:
        plan = preview_collection(_client(settings), Lake.at(settings.lake), version, max_items=max_items)
    except ApiFailure as failure:
        raise Trouble(f"there is no model version {version} on the site: {failure}") from None
    except LakeError as error:
        raise Trouble(str(error)) from None
    if as_json:
        _print_json(plan)
    else:
        Console().print(
            rows_table(
                [{"key": k, "value": str(v) if v is not None else "unknown"} for k, v in plan.items()],
                {"key": "", "value": ""},
            )
        )


@main.command()
@click.argument("version", type=VERSION, required=False)
@json_option
def status(version: int | None, *, as_json: bool) -> None:
    """Show where each listing stands: all of the lake's, or those of model version VERSION."""
    settings = _settings()
    from civitai_pipeline.derive.prompt_tables import load_held  # noqa: PLC0415 - loads DuckDB and Arrow
    from civitai_pipeline.lake.database import collection_state  # noqa: PLC0415 - loads DuckDB and Arrow

    lake = Lake.at(settings.lake)
    try:
        chosen = lake.versions() if version is None else [version]
        rows = [row for each in chosen for row in collection_state(load_held(lake, each).landed_pages)]
    except LakeError as error:
        raise Trouble(str(error)) from None
    if as_json:
        _print_json(rows)
        return
    if not rows:
        errors.print(f"Nothing has been collected into {lake.root} yet.", markup=False, highlight=False, soft_wrap=True)
        return
    headings = {
        "model_version_id": "version",
        "sort": "sort",
        "browsing_level": "level",
        "status": "status",
        "pages": "pages",
        "attempted": "attempted",
        "total_collected": "prompts",
        "last_successful_fetch_at": "last fetched",
    }
    Console().print(rows_table([{**row, "model_version_id": str(row["model_version_id"])} for row in rows], headings))


@main.command()
@click.argument("chosen", metavar="[VERSION]...", type=VERSION, nargs=-1)
@click.option(
    "--format", "kind", type=click.Choice(["csv", "jsonl", "parquet"]), required=True, help="The file's format."
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The file to write.")
def export(chosen: tuple[int, ...], kind: str, output: Path) -> None:
    """Write the prompts of some or all model versions to one file."""
    settings = _settings()
    from civitai_pipeline.lake.export import ExportError, export_prompts  # noqa: PLC0415 - loads DuckDB and Arrow

    try:
        rows = export_prompts(Lake.at(settings.lake), list(chosen), kind, output)
    except (LakeError, ExportError) as error:
        raise Trouble(str(error)) from None
    errors.print(f"{rows:,} rows written to {output}", markup=False, highlight=False, soft_wrap=True)


@main.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8600, show_default=True, help="Port; 0 takes a free one."
)
@click.option("--items", type=click.Path(path_type=Path), help="Serve the items of this file, one JSON object a line.")
@click.option(
    "--images", type=click.IntRange(min=1), default=4000, show_default=True, help="Images in the made-up set."
)
@click.option("--seed", type=int, default=1, show_default=True, help="The made-up set's seed.")
@click.option("--faults", type=click.Path(path_type=Path), help="Misbehave as this JSON file says.")
@click.option("--grow", type=float, metavar="SECONDS", help="Add some images every so many seconds.")
def sandbox(*, port: int, items: Path | None, images: int, seed: int, faults: Path | None, grow: float | None) -> None:
    """Serve the embedded stand-in for the CivitAI API until stopped."""
    from civitai_pipeline.sandbox import SandboxError  # noqa: PLC0415 - needed by this command alone
    from civitai_pipeline.sandbox.command import serve  # noqa: PLC0415 - needed by this command alone

    try:
        serve(port=port, items_path=items, seed=seed, images=images, faults_path=faults, grow_every_s=grow)
    except SandboxError as error:
        raise Trouble(str(error)) from None


@main.command()
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".demo"),
    show_default=True,
    help="Where to put the demo's lake and records.",
)
def demo(home: Path) -> None:
    """Collect three model versions from the embedded stand-in, offline, and show what comes of it."""
    warnings.simplefilter("ignore")  # Dagster's notices about its own future are for developers
    from civitai_pipeline.demo import DemoError, run_demo  # noqa: PLC0415 - Dagster takes seconds to load

    try:
        run_demo(home, Console(), errors)
    except DemoError as error:
        raise Trouble(str(error)) from None
    except KeyboardInterrupt:
        sys.exit(EXIT_CANCELED)


if __name__ == "__main__":
    main()
