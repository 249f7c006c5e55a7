"""All proofs, one after the other, and one table at the end: ``make prove``.

Each proof runs in a process of its own, so that none inherits another's patches, threads or memory, and one that
breaks down leaves a line in the table and lets the others go on.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from civitai_pipeline_tests.proofs.all import PROOFS, prove, what_is_missing
from civitai_pipeline_tests.proofs.verdict import Verdict, print_verdicts


def main() -> int:
    """Runs the proofs and prints their table; 1 if anything is lost, double or otherwise amiss."""
    parser = argparse.ArgumentParser(prog="python -m civitai_pipeline_tests.proofs", description="The long proofs.")
    parser.add_argument("--seed", type=int, default=1, help="draws other moments, faults and items")
    parser.add_argument("only", nargs="*", metavar="proof", help=f"of {', '.join(PROOFS)}; default: all")
    chosen = parser.parse_args()
    if unknown := sorted(set(chosen.only) - set(PROOFS)):
        parser.error(f"there is no proof {', '.join(unknown)}; there are {', '.join(PROOFS)}")
    names = chosen.only or PROOFS
    if missing := what_is_missing(names):
        parser.error(missing)
    verdicts = []
    for name in names:
        sys.stderr.write(f"\n{name} ...\n")
        started = time.monotonic()
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            future = process.submit(prove, name, chosen.seed)
            problem = future.exception()
        took = time.monotonic() - started
        if problem is None:
            found = future.result()
        else:
            # A proof that breaks down is a proof that failed, whatever it died of. The table has room for a line, and
            # what a run says before it fails ends, as tracebacks do, with the line that matters.
            traceback.print_exception(problem)
            lines = str(problem).splitlines() or [""]
            said = " ... ".join(dict.fromkeys((lines[0], lines[-1])))
            found = [Verdict(name, "broke down", problems=(f"{type(problem).__name__}: {said}",), seconds=took)]
        # All take an hour, and whoever has to stop them wants to know how far they were.
        failed = [": ".join(verdict.cells()[::5]) for verdict in found if not verdict.ok]
        sys.stderr.write("\n".join([f"\n{name}: {'FAILED' if failed else 'ok'}, {took:.0f} s", *failed, ""]))
        verdicts += found
    print_verdicts(f"proofs, seed {chosen.seed}", verdicts)
    return int(not all(verdict.ok for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main())
