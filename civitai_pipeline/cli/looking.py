"""The commands that look: ``versions``, ``preview`` and ``status``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from civitai_pipeline.civitai.failures import ApiFailure, FailureKind
from civitai_pipeline.cli.common import (
    EXIT_USAGE,
    MODEL,
    VERSION,
    Trouble,
    client,
    examples,
    json_option,
    mention,
    output,
    point_to_versions,
    print_json,
    say,
    settings_or_misuse,
)
from civitai_pipeline.console import printable, rows_table
from civitai_pipeline.instance import InstanceError, prepare_home
from civitai_pipeline.lake.files import LakeError
from civitai_pipeline.lake.paths import Lake

if TYPE_CHECKING:
    from civitai_pipeline.civitai.client import CivitaiClient


@click.command(epilog=examples("versions 4384", "versions 4384 --register"))
@click.argument("model", type=MODEL)
@click.option("--register", is_flag=True, help="Make each version a partition in Dagster.")
@json_option
def versions(model: int, *, register: bool, as_json: bool) -> None:
    """List the published versions of model MODEL."""
    settings = settings_or_misuse()
    try:
        found = client(settings).model(model)
    except ApiFailure as failure:
        if failure.kind is FailureKind.NOT_FOUND:
            _point_to_model(client(settings), model)
        raise Trouble(f"model {model} could not be asked for: {failure}") from None
    from civitai_pipeline import launch  # noqa: PLC0415 - Dagster takes seconds to load
    from civitai_pipeline.derive.prompt_tables import load_held  # noqa: PLC0415 - loads DuckDB and Arrow

    try:
        prepare_home(settings.dagster_home)
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
    except (LakeError, InstanceError) as error:
        raise Trouble(str(error)) from None
    if as_json:
        print_json({"model_id": found.id, "model_name": found.name, "versions": rows})
        return
    headings = {
        "id": "version",
        "name": "name",
        "base_model": "base model",
        "published_at": "published",
        "registered": "registered",
        "held": "prompts held",
    }
    console = output()
    console.print(printable(f"{found.name} (model {found.id})"), markup=False, highlight=False)
    console.print(rows_table([{**row, "id": str(row["id"])} for row in rows], headings))


def _point_to_model(api: CivitaiClient, given: int) -> None:
    """Ends the command if what was given for a model's id is the id of a model version; says whose."""
    try:
        version = api.model_version(given)
    except ApiFailure:
        return
    say(f"Error: {given} is the id of a model version, {version.name}, not of a model. Its model:")
    name = "" if version.model is None else f"    {version.model.name}"
    say(f"  civitai-pipeline versions {version.model_id}{name}")
    sys.exit(EXIT_USAGE)


@click.command(epilog=examples("preview 128713", "preview 128713 --max-items 5000 --json"))
@click.argument("version", type=VERSION)
@click.option("--max-items", type=click.IntRange(min=1), help="The limit the run would be given.")
@json_option
def preview(version: int, *, max_items: int | None, as_json: bool) -> None:
    """Say what a collection of model version VERSION would do."""
    settings = settings_or_misuse()
    from civitai_pipeline.collect.preview import preview_collection  # noqa: PLC0415 - loads DuckDB and Arrow

    try:
        plan = preview_collection(
            client(settings),
            Lake.at(settings.lake),
            version,
            max_items=max_items,
            on_unnamed=lambda failure: say(f"Warning: the API could not be asked for the version's names: {failure}"),
        )
    except ApiFailure as failure:
        try:
            model = client(settings).model(version)
        except ApiFailure:
            model = None
        if model is not None:
            point_to_versions(model, "preview")
        raise Trouble(f"there is no model version {version} on the site: {failure}") from None
    except LakeError as error:
        raise Trouble(str(error)) from None
    if as_json:
        print_json(plan)
    else:
        output().print(
            rows_table(
                [{"key": k, "value": str(v) if v is not None else "unknown"} for k, v in plan.items()],
                {"key": "", "value": ""},
            )
        )


@click.command(epilog=examples("status", "status 128713", "status --json"))
@click.argument("version", type=VERSION, required=False)
@json_option
def status(version: int | None, *, as_json: bool) -> None:
    """Show where each listing stands, of all versions or of VERSION alone."""
    settings = settings_or_misuse()
    import pyarrow as pa  # noqa: PLC0415 - large

    from civitai_pipeline.derive.prompt_tables import load_landed_pages  # noqa: PLC0415 - loads DuckDB and Arrow
    from civitai_pipeline.lake.database import collection_state  # noqa: PLC0415 - loads DuckDB and Arrow

    lake = Lake.at(settings.lake)
    try:
        chosen = lake.versions() if version is None else [version]
        ledgers = [load_landed_pages(lake, each) for each in chosen]
        rows = collection_state(pa.concat_tables(ledgers)) if ledgers else []
    except LakeError as error:
        raise Trouble(str(error)) from None
    if as_json:
        print_json(rows)
        return
    if not rows:
        what = "Nothing has" if version is None else f"Nothing of model version {version} has"
        mention(f"{what} been collected into {lake.root} yet.")
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
    output().print(rows_table([{**row, "model_version_id": str(row["model_version_id"])} for row in rows], headings))
