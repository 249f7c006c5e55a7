"""The stand-in in the foreground, as ``civitai-pipeline sandbox`` runs it.

Builds a world, serves it, says how to reach it and waits to be stopped. Reading the command line is done by
the program's ``cli``; the server itself is ``server.py``.
"""

from __future__ import annotations

import sys
import threading
from random import Random
from typing import TYPE_CHECKING

from civitai_pipeline.sandbox.faults import FaultSchedule
from civitai_pipeline.sandbox.options import SandboxError
from civitai_pipeline.sandbox.server import Sandbox
from civitai_pipeline.sandbox.world import World
from civitai_pipeline.signals import until_signalled, wait

if TYPE_CHECKING:
    from pathlib import Path
    from typing import TextIO

    from civitai_pipeline.sandbox.options import SandboxOptions

# A file of real items links them to many resources; nobody reads more lines than these.
_VERSIONS_SHOWN = 20
_LARGEST_ARRIVAL = 5


def serve(
    *,
    port: int = 0,
    items_path: str | Path | None = None,
    seed: int = 1,
    images: int = 4000,
    faults_path: str | Path | None = None,
    options: SandboxOptions | None = None,
    grow_every_s: float | None = None,
    out: TextIO | None = None,
) -> None:
    """Serves until interrupted or terminated, then returns.

    Must be called in the main thread, where signals arrive.

    Args:
        port: The port on loopback; 0 takes a free one.
        items_path: Serves the items of this file; None serves the synthetic dataset.
        seed: The synthetic dataset's seed.
        images: How many images the synthetic dataset has.
        faults_path: A fault schedule in JSON, or None for no faults.
        options: The modes.
        grow_every_s: Adds a few images to the largest versions this often, in seconds; None adds none.
        out: Where the address and the versions are printed; standard error by default.

    Raises:
        SandboxError: The port is taken, or a file cannot be used.
    """
    out = out or sys.stderr
    faults = FaultSchedule() if faults_path is None else FaultSchedule.from_json(faults_path)
    world = World.synthetic(seed=seed, images=images) if items_path is None else World.from_jsonl(items_path)
    if grow_every_s is not None and grow_every_s <= 0:
        raise SandboxError(f"images cannot be added every {grow_every_s:g} seconds")
    with until_signalled() as stop, Sandbox(world, options, faults=faults, port=port) as server:
        out.write(describe(server))
        out.flush()
        if grow_every_s is not None:
            threading.Thread(target=grow, args=(world, grow_every_s, stop), name="sandbox-grow", daemon=True).start()
        wait(stop)


def describe(server: Sandbox) -> str:
    """The lines that say where a server is and what it serves."""
    world = server.world
    counts = sorted(world.summary().items(), key=lambda entry: -entry[1])
    lines = [f"CivitAI stand-in at {server.url}", "", "    version      model  images"]
    for version_id, count in counts[:_VERSIONS_SHOWN]:
        version = world.versions[version_id]
        model = world.models[version.model_id]
        lines.append(f"{version_id:>11}  {model.id:>9}  {count:>6}  {model.name}, {version.name} ({model.type})")
    if len(counts) > _VERSIONS_SHOWN:
        lines.append(f"and {len(counts) - _VERSIONS_SHOWN} versions more")
    lines += [
        "",
        "Point the pipeline at it with",
        "",
        f"    export CIVITAI_BASE_URL={server.url}",
        "",
        "Ctrl-C stops it.",
        "",
    ]
    return "\n".join(lines)


def grow(world: World, every_s: float, stop: threading.Event) -> None:
    """Adds a few images to one of the three largest versions again and again, until told to stop.

    Args:
        world: The world.
        every_s: Seconds between two additions.
        stop: Set to end.
    """
    random = Random(0)  # noqa: S311 - how many images come is no secret
    counts = world.summary()
    busiest = sorted(counts, key=lambda version: -counts[version])[:3]
    while not stop.wait(every_s):
        world.add_images(random.choice(busiest), random.randint(1, _LARGEST_ARRIVAL))
