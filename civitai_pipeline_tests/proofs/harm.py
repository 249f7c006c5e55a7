"""What can become of a file: cut short, emptied, foreign, flipped, deleted, a folder; all seeded."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from random import Random

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
