"""Breaks the code on purpose and sees the short form of a proof fail: ``make breakages``.

A proof that passes whatever happens proves nothing, and a change of the code can make one so without a word. Here is
what each proof must notice; every breakage is made in a copy, and is a plain replacement of text, so that whoever reads
it sees what was broken. The same tests must pass where nothing is. What the long forms noticed besides is in
``docs/reliability.md``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from civitai_pipeline_tests.proofs.all import PROOFS
from civitai_pipeline_tests.proofs.grounds import print_table
from civitai_pipeline_tests.proofs.warm import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

COPIED = ("civitai_pipeline", "civitai_pipeline_tests", "docs", "pyproject.toml", "workspace.yaml")
# All of them take two to three minutes, and several times that on a busy machine.
LONGEST_S = 900
TESTS_FAILED = 1


@dataclass(frozen=True)
class Breakage:
    """Something that a proof guards, broken.

    Attributes:
        proof: Which proof must notice.
        what: What is broken, in a few words.
        file: Where, in the package.
        changes: Texts that occur once there, and what stands in their place.
        chosen: Which of the tests of the proof's short form are run, by parts of their names.
    """

    proof: str
    what: str
    file: str
    changes: tuple[tuple[str, str], ...]
    chosen: str

    def broken(self, text: str) -> str:
        """The file's text with the breakage in it.

        Raises:
            ValueError: The text that is to be broken is not there just once.
        """
        for old, new in self.changes:
            if text.count(old) != 1:
                raise ValueError(f"{self.file} has changed, so nothing would be broken: {old.strip()!r}")
            text = text.replace(old, new)
        return text


BREAKAGES = (
    Breakage(
        "fault_matrix",
        "a 500 taken for a refusal",
        "civitai/failures.py",
        (("elif status >= 500 or", "elif status > 500 or"),),
        "is_survived and 500",
    ),
    Breakage(
        "soak",
        "the same page twice not noticed",
        "collect/circles.py",
        (("if ids == self.previous_ids and", "if False and ids == self.previous_ids and"),),
        "under_fire",
    ),
    Breakage(
        "soak",
        "a cursor advanced without its page",
        "collect/collector.py",
        (
            (
                "            self._land(page, place, cursor, position",
                "            if place.page != 7: self._land(page, place, cursor, position",
            ),
        ),
        "under_fire",
    ),
    Breakage(
        "kill",
        "no summary of the dead",
        "defs/sensors/repair.py",
        (("    instance.report_runless_asset_event(\n", "    str(\n"),),
        "drawn_moments",
    ),
    Breakage(
        "chaos",
        "open walks not gone on with",
        "upkeep/decisions.py",
        (
            (
                "for standing in state.standings if standing.walked is not Walked.AT_END]",
                "for standing in state.standings if standing.walked is Walked.NEVER]",
            ),
        ),
        "to_their_end",
    ),
    Breakage(
        "concurrency",
        "tables written in place",
        "lake/files.py",
        (("        flush(scratch)\n        scratch.replace(path)", "        path.write_bytes(scratch.read_bytes())"),),
        "made_anew",
    ),
    Breakage(
        "damage",
        "pages without a checksum",
        "lake/pages.py",
        (("write_checksum=True", "write_checksum=False"),),
        "in_every_way",
    ),
    Breakage(
        "upkeep",
        "files removed before their bundle is there",
        "lake/compaction.py",
        (
            (
                "    create_exclusively(lake.root, path, pack",
                "    [(folder / file.name).unlink() for file in files]; create_exclusively(lake.root, path, pack",
            ),
            ("            (folder / file.name).unlink()\n    return sum(", "            pass\n    return sum("),
        ),
        "compactions_killed",
    ),
    Breakage(
        "hostile",
        "prompts without white space at their ends",
        "prompts/metadata.py",
        (("            return text, None\n", "            return text.strip(), None\n"),),
        "to_the_letter",
    ),
    Breakage(
        "secrets",
        "the key not taken out",
        "civitai/redaction.py",
        (("            text = text.replace(spelling, REDACTED)\n", "            pass\n"),),
        "thrown_back or throw_back",
    ),
    Breakage(
        "secrets",
        "redirects to other hosts followed",
        "civitai/client.py",
        (("        if there != here and not upgraded:\n", "        if False:\n"),),
        "thrown_back or throw_back",
    ),
)


def tested(breakages: Sequence[Breakage], *, broken: bool) -> int | None:
    """Runs the short forms that must notice breakages, in a copy.

    Args:
        breakages: The breakages.
        broken: Whether to make them.

    Returns:
        The exit status of pytest; None if it does not end.
    """
    with tempfile.TemporaryDirectory(prefix="breakage-") as name:
        copy = Path(name)
        for path in (ROOT / part for part in COPIED):
            if path.is_dir():
                shutil.copytree(path, copy / path.name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(path, copy)
        for breakage in breakages if broken else ():
            file = copy / "civitai_pipeline" / breakage.file
            file.write_text(breakage.broken(file.read_text(encoding="utf-8")), encoding="utf-8")
        tests = {f"civitai_pipeline_tests/proofs/test_{breakage.proof}.py" for breakage in breakages}
        chosen = " or ".join(f"({breakage.chosen})" for breakage in breakages)
        try:
            return subprocess.run(
                [sys.executable, "-m", "pytest", "-q", "-x", "-n0", "-p", "no:cacheprovider", *tests, "-k", chosen],
                # Before the project as it is installed, in the processes that the tests start too.
                cwd=copy, env={**os.environ, "PYTHONPATH": name}, stdout=sys.stderr, timeout=LONGEST_S, check=False,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            return None


def main() -> int:
    """Sees all breakages, or those of some proofs, and prints a table; 1 if one is not caught."""
    parser = argparse.ArgumentParser(prog="python -m civitai_pipeline_tests.proofs.breakages", description=__doc__)
    parser.add_argument("only", nargs="*", metavar="proof", help=f"of {', '.join(PROOFS)}; default: all")
    only = parser.parse_args().only
    if unknown := sorted(set(only) - set(PROOFS)):
        parser.error(f"there is no proof {', '.join(unknown)}; there are {', '.join(PROOFS)}")
    chosen = [breakage for breakage in BREAKAGES if breakage.proof in (only or PROOFS)]
    sys.stderr.write("nothing broken ...\n")
    if tested(chosen, broken=False) != 0:
        sys.stderr.write("The short forms fail although nothing is broken, so nothing can be told by them.\n")
        return 1
    rows = []
    for breakage in chosen:
        sys.stderr.write(f"{breakage.proof}: {breakage.what} ...\n")
        status = tested([breakage], broken=True)
        verdict = {TESTS_FAILED: "caught", 0: "NOT CAUGHT", None: "NO END"}.get(status, "BROKE DOWN")
        rows.append((breakage.proof, breakage.what, verdict))
    print_table("broken on purpose", ("proof", "broken", "verdict"), rows)
    return int(any(verdict != "caught" for _, _, verdict in rows))


if __name__ == "__main__":
    sys.exit(main())
