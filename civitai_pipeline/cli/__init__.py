"""The command line: reads arguments, calls the packages beside it, prints what they say.

Standard output carries the answer (with ``--json`` exactly one document), standard error everything else.
Dagster is imported only by the commands that need it: it takes seconds to load.
"""

from __future__ import annotations

import logging

import click

from civitai_pipeline.cli.checking import check
from civitai_pipeline.cli.collecting import collect
from civitai_pipeline.cli.common import Misuse, examples, notices
from civitai_pipeline.cli.completing import completion
from civitai_pipeline.cli.exporting import export
from civitai_pipeline.cli.importing import import_legacy, merge_lake
from civitai_pipeline.cli.keeping import backup, compact, prune, restore, size
from civitai_pipeline.cli.looking import preview, status, versions
from civitai_pipeline.cli.querying import sql
from civitai_pipeline.cli.serving import demo, dev, reports, sandbox
from civitai_pipeline.cli.words import taxonomy


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples("demo", "collect 128713 --max-items 500", "status", "dev"),
)
@click.version_option(package_name="civitai-pipeline")
@click.option("-v", "--verbose", is_flag=True, help="Say more on standard error.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing on standard error but errors and warnings.")
def main(*, verbose: bool, quiet: bool) -> None:
    """Turns CivitAI's public API into a complete, trustworthy dataset of image-generation prompts."""
    if verbose and quiet:
        raise Misuse("--verbose and --quiet contradict each other; give one of them")
    notices.quiet = quiet
    handler = logging.StreamHandler()
    # On the handler, because Dagster sets the level of the loggers that it keeps in the event log.
    handler.setLevel(logging.INFO if verbose else logging.ERROR)
    logging.basicConfig(handlers=[handler], format="%(levelname)s %(message)s", level=logging.INFO)


COMMANDS = (
    collect, versions, preview, status, sql, export, taxonomy, import_legacy, merge_lake, check, size, compact, prune,
    backup, restore, dev, reports, sandbox, demo, completion,
)  # fmt: skip
for command in COMMANDS:
    main.add_command(command)
