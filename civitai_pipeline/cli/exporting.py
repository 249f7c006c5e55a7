"""The ``export`` command."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from civitai_pipeline.cli.common import (
    EXIT_CANCELED,
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
from civitai_pipeline.export.options import (
    DISTINCT,
    FORMATS,
    SPLIT_BY,
    ExportOptions,
    OptionError,
    help_of,
)
from civitai_pipeline.lake.files import LakeError, working_folder
from civitai_pipeline.lake.paths import Lake

if TYPE_CHECKING:
    from collections.abc import Callable

    from civitai_pipeline.export.run import ExportResult

STANDARD_OUTPUT = "-"
# What a program can read from a pipe; Parquet is read from its end.
STREAMED = ("csv", "jsonl")


def _option(name: str, **how: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:  # noqa: ANN401 - click's own
    """The command's option for the field of ``ExportOptions`` called ``name``."""
    default = getattr(ExportOptions(), name)
    if isinstance(default, bool):
        how |= {"is_flag": True}
    elif isinstance(default, tuple):
        how |= {"multiple": True, "type": str}
    else:
        how |= {"default": default, "show_default": default is not None}
    return click.option(f"--{name.replace('_', '-')}", name, help=help_of(name), **how)


@click.command(
    epilog=examples(
        "export --format csv --output prompts.csv --bom            # for a spreadsheet",
        "export 128713 --format huggingface --output dataset       # for training",
        "export --format wildcards --output wildcards",
        "export --format jsonl --output - --category lighting --limit 100",
    )
)
@click.argument("chosen", metavar="[VERSION]...", type=VERSION, nargs=-1)
@click.option("--format", "format", type=click.Choice(FORMATS), required=True, help=help_of("format"))
@click.option("--output", type=str, required=True, help="The file or folder to write; - is standard output.")
@_option("columns", metavar="A,B,…")
@_option("max_level", metavar="LEVEL")
@_option("include_unknown_level")
@_option("include_withdrawn")
@_option("category")
@_option("primary_category")
@_option("resource")
@_option("sampler")
@_option("base_model")
@_option("min_reactions", type=int)
@_option("since", metavar="DAY")
@_option("until", metavar="DAY")
@_option("distinct", type=click.Choice(DISTINCT))
@_option("max_per_author", type=int)
@_option("max_per_version", type=int)
@_option("limit", type=int)
@_option("hash_authors")
@click.option(
    "--author-key-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file whose bytes are the key of author_hash, instead of the lake's own key.",
)
@_option("bom")
@_option("split_by", type=click.Choice(SPLIT_BY))
@_option("seed", type=int)
@_option("min_images", type=int)
@_option("min_authors", type=int)
@_option("max_terms", type=int)
@json_option
def export(
    chosen: tuple[int, ...],
    output: str,
    author_key_file: Path | None,
    *,
    as_json: bool,
    **choices: Any,  # noqa: ANN401 - click's options
) -> None:
    """Write the prompts of some or all versions to a file or folder.

    Options that may be given several times take any of their values.
    """
    settings = settings_or_misuse()
    from civitai_pipeline.export.run import export_prompts  # noqa: PLC0415 - loads DuckDB and Arrow
    from civitai_pipeline.export.staging import ExportError  # noqa: PLC0415 - with the former

    to_stdout = output == STANDARD_OUTPUT
    if to_stdout and choices["format"] not in STREAMED:
        raise Misuse(f"{choices['format']} cannot go to standard output; name an --output")
    if to_stdout and as_json:
        raise Misuse("standard output cannot hold both the export and --json; name an --output")
    try:
        options = ExportOptions(**choices)
        with working_folder() as folder:
            target = Path(folder) / "export" if to_stdout else Path(output)
            result = export_prompts(
                Lake.at(settings.lake),
                chosen,
                options,
                target,
                default_level=settings.browsing_level,
                key_file=author_key_file,
            )
            if to_stdout:
                with target.open("rb") as file:
                    shutil.copyfileobj(file, sys.stdout.buffer)
                sys.stdout.buffer.flush()
    except OptionError as error:
        raise Misuse(str(error)) from None
    except (LakeError, ExportError) as error:
        raise Trouble(str(error)) from None
    except KeyboardInterrupt:
        say("Error: cancelled; nothing was written")
        sys.exit(EXIT_CANCELED)
    _report(result, "standard output" if to_stdout else output)
    if as_json:
        print_json(result.as_dict())


def _report(result: ExportResult, place: str) -> None:
    if result.terms:
        mention(f"{sum(result.terms.values()):,} terms from {result.rows:,} rows written to {place}")
    else:
        mention(f"{result.rows:,} rows written to {place}")
    for note in result.notes():
        mention(f"  {note}")
