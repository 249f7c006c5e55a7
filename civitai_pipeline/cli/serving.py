"""The commands that serve: ``dev``, ``sandbox``, ``reports`` and ``demo``."""

from __future__ import annotations

import io
import sys
import warnings
import webbrowser
from pathlib import Path

import click
from rich.console import Console

from civitai_pipeline.cli.common import (
    EXIT_CANCELED,
    Trouble,
    examples,
    mention,
    notices,
    settings_or_misuse,
)
from civitai_pipeline.instance import InstanceError
from civitai_pipeline.lake.files import LakeError, is_local
from civitai_pipeline.lake.paths import Lake


@click.command(epilog=examples("dev", "dev --sandbox --port 3001"))
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True, help="Port of the UI.")
@click.option("--sandbox", is_flag=True, help="Run on the embedded stand-in for the API instead of the real one.")
def dev(*, port: int, sandbox: bool) -> None:
    """Open the Dagster UI on 127.0.0.1 until stopped."""
    from civitai_pipeline.dev import DevError, run_dev  # noqa: PLC0415 - needed by this command alone

    try:
        sys.exit(run_dev(settings_or_misuse(), port, notices, sandbox=sandbox))
    except (DevError, InstanceError) as error:
        raise Trouble(str(error)) from None


@click.command(epilog=examples("sandbox", "sandbox --port 0 --images 500 --grow 60"))
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
    """Serve the embedded stand-in for the API until stopped."""
    from civitai_pipeline.sandbox import SandboxError  # noqa: PLC0415 - needed by this command alone
    from civitai_pipeline.sandbox.command import serve  # noqa: PLC0415 - needed by this command alone

    try:
        serve(
            port=port,
            items_path=items,
            seed=seed,
            images=images,
            faults_path=faults,
            grow_every_s=grow,
            out=io.StringIO() if notices.quiet else None,
        )
    except SandboxError as error:
        raise Trouble(str(error)) from None


@click.command(epilog=examples("reports --open", "reports --port 0"))
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8700, show_default=True, help="Port; 0 takes a free one."
)
@click.option("--open", "opened", is_flag=True, help="Open the index of reports in the browser.")
def reports(*, port: int, opened: bool) -> None:
    """Serve the lake's reports on 127.0.0.1 until stopped.

    To have links to them in the Dagster UI, set CIVITAI_REPORT_URL to the address that is printed.
    """
    from civitai_pipeline.report_server import ReportServerError, serving  # noqa: PLC0415 - needed by this command alone
    from civitai_pipeline.signals import until_signalled, wait  # noqa: PLC0415 - needed by this command alone

    settings = settings_or_misuse()
    try:
        folder = Lake.at(settings.lake).reports
        if not is_local(folder):
            raise Trouble(f"{folder} is no folder of this machine; open the reports where the lake is kept")
        with until_signalled() as stop, serving(Path(str(folder)), port) as url:
            click.echo(url)
            mention(f"Serving {folder}. Ctrl-C stops it.")
            if opened:
                webbrowser.open(url)
            wait(stop)
    except (LakeError, ReportServerError) as error:
        raise Trouble(str(error)) from None


@click.command(epilog=examples("demo", "demo --home somewhere"))
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".demo"),
    show_default=True,
    help="Where to put the demo's lake and records.",
)
def demo(home: Path) -> None:
    """Collect three versions from the stand-in, offline, and show what comes of it."""
    warnings.simplefilter("ignore")  # Dagster's notices about its own future are for developers
    from civitai_pipeline.demo import DemoError, run_demo  # noqa: PLC0415 - Dagster takes seconds to load

    try:
        run_demo(home, Console(), notices)
    except (DemoError, InstanceError) as error:
        raise Trouble(str(error)) from None
    except KeyboardInterrupt:
        sys.exit(EXIT_CANCELED)
