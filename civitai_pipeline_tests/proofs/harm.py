"""What can become of a file, all seeded, and how what came of that is counted."""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from civitai_pipeline_tests.proofs.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from random import Random

    from civitai_pipeline.lake.paths import Lake

    # Harms a file; others of its kind lie at the third argument.
    Harm = Callable[[Path, Random, Sequence[Path]], None]


def cut(path: Path, random: Random, _others: Sequence[Path]) -> None:
    """Bytes at its end are gone."""
    data = path.read_bytes()
    path.write_bytes(data[: random.randrange(1, max(2, len(data)))])


def emptied(path: Path, _random: Random, _others: Sequence[Path]) -> None:
    """All its bytes are gone."""
    path.write_bytes(b"")


def foreign(path: Path, random: Random, _others: Sequence[Path]) -> None:
    """Random bytes."""
    path.write_bytes(random.randbytes(random.randrange(1, 5_000)))


def anothers(path: Path, random: Random, others: Sequence[Path]) -> None:
    """The bytes of another file of its kind."""
    path.write_bytes(random.choice([other for other in others if other != path]).read_bytes())


def flipped(path: Path, random: Random, _others: Sequence[Path]) -> None:
    """One bit is another."""
    data = bytearray(path.read_bytes())
    bit = random.randrange(8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(bytes(data))


def zeroed(path: Path, random: Random, _others: Sequence[Path]) -> None:
    """A stretch of it is zeros, as after a crash of some file systems."""
    data = path.read_bytes()
    start = random.randrange(len(data))
    end = min(len(data), start + 512)
    path.write_bytes(data[:start] + bytes(end - start) + data[end:])


def longer(path: Path, random: Random, _others: Sequence[Path]) -> None:
    """Something follows its end."""
    path.write_bytes(path.read_bytes() + random.randbytes(20))


def folder(path: Path, _random: Random, _others: Sequence[Path]) -> None:
    """A folder stands in its place."""
    path.unlink()
    path.mkdir()


def deleted(path: Path, _random: Random, _others: Sequence[Path]) -> None:
    """It is gone."""
    path.unlink()


HARMS: dict[str, Harm] = {
    "cut short": cut,
    "emptied": emptied,
    "foreign bytes": foreign,
    "another's bytes": anothers,
    "a bit flipped": flipped,
    "zeroed in part": zeroed,
    "longer": longer,
    "a folder instead": folder,
    "deleted": deleted,
}


def restore(path: Path, data: bytes) -> None:
    """Puts a file back as it was."""
    if path.is_dir():
        shutil.rmtree(path)
    path.write_bytes(data)


def page_files(lake: Lake, version: int) -> list[Path]:
    """The files of a version's pages."""
    return sorted(Path(str(path)) for path in Path(str(lake.pages(version))).rglob("*.zst"))


@dataclass
class Tried:
    """What became of one kind of harm.

    Attributes:
        harms: Files harmed.
        noticed: Harms that a check found.
        harmless: Harms not found that change nothing.
        lost: Harms neither found nor harmless, and images that were not there in the end.
        twice: Images that were there more than once.
        problems: What else did not hold.
        seconds: How long it took.
    """

    harms: int = 0
    noticed: int = 0
    harmless: int = 0
    lost: int = 0
    twice: int = 0
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def verdict(self, what: str) -> Verdict:
        """The line of the table."""
        how_many = f"{self.harms} harms, {self.noticed} noticed" + (
            f", {self.harmless} change nothing" if self.harmless else ""
        )
        problems = tuple(dict.fromkeys(self.problems))[:3]
        return Verdict(what, how_many, self.lost, self.twice, problems, self.seconds)


@contextmanager
def timed(tried: Tried) -> Iterator[None]:
    started = time.monotonic()
    yield
    tried.seconds += time.monotonic() - started


def dot() -> None:
    """A sign of life."""
    sys.stderr.write(".")
    sys.stderr.flush()
