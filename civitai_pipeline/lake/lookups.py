"""What the API answered when asked about resources: one cache for all model versions.

Belongs here: how an answer is kept and read back. Whom to ask about what is decided in ``collect.resolve``,
what the answers mean for a table in ``derive``.

Answers lie in some 350 small files, ``lookups/version_id/<last two digits>.jsonl`` and
``lookups/hash/<first two digits>.jsonl``, one line of JSON each. A file is always replaced whole, so a crash
leaves the old one or the new one; that many keep one replacement small, and reading them all fast.
"""

from __future__ import annotations

import logging
import re
import zlib
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa

from civitai_pipeline.lake.files import explained, set_aside, write_whole
from civitai_pipeline.lake.paths import MAX_VERSION_ID

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from upath import UPath

    from civitai_pipeline.lake.paths import Lake

log = logging.getLogger(__name__)

# What nobody knew may have been published since; most of it, home-made files, never will be.
UNKNOWN_FOR = timedelta(days=30)
_HASH = re.compile(r"[0-9a-f]{8,64}")
_VERSION_ID = re.compile(r"[1-9][0-9]{0,9}")
_FILE = re.compile(r"[0-9a-f]{2}\.jsonl")


class LookupBy(StrEnum):
    """What a resource is asked about by."""

    VERSION_ID = "version_id"
    HASH = "hash"


@dataclass(frozen=True, slots=True, order=True)
class LookupKey:
    """What the API is asked: a version id in decimal digits, or a file hash in lower-case hexadecimal ones.

    Raises:
        ValueError: It is neither, and may become part of no path and no address.
    """

    by: LookupBy
    value: str

    def __post_init__(self) -> None:
        if self.by is LookupBy.HASH:
            fits = _HASH.fullmatch(self.value) is not None
        else:
            fits = _VERSION_ID.fullmatch(self.value) is not None and int(self.value) <= MAX_VERSION_ID
        if not fits:
            raise ValueError(f"{self.value!r} is no {self.by.value} that could be asked about")

    @property
    def bucket(self) -> str:
        """The two digits that name its file: of a hash the first, of an id the last, which spread better."""
        return self.value[:2] if self.by is LookupBy.HASH else self.value[-2:].zfill(2)


@dataclass(frozen=True, slots=True)
class Lookup:
    """An answer.

    Attributes:
        key: What was asked.
        fetched_at: When.
        version_id: The model version found; None if the API knows none.
        model_id: Its model.
        model_name: The model's name.
        version_name: The version's name.
        model_type: Checkpoint, LORA, … as the API spells it.
        base_model: The base model the version was made for.
    """

    key: LookupKey
    fetched_at: datetime
    version_id: int | None = None
    model_id: int | None = None
    model_name: str | None = None
    version_name: str | None = None
    model_type: str | None = None
    base_model: str | None = None

    def is_good_at(self, now: datetime) -> bool:
        """Whether it need not be asked again: what is known is kept for good, what is not for ``UNKNOWN_FOR``."""
        # A clock that ran ahead must not make an answer good for years.
        return self.version_id is not None or abs(now - self.fetched_at) < UNKNOWN_FOR


_ANSWERED = tuple(field.name for field in fields(Lookup) if field.name not in {"key", "fetched_at"})
_IDS = ("version_id", "model_id")
# The key of a line's checksum, taken without itself: a flipped bit in a name would go unnoticed for ever.
_CHECKSUM = "crc32"
LOOKUP_SCHEMA = pa.schema(
    [
        pa.field("asked_by", pa.string()),
        pa.field("value", pa.string()),
        *(pa.field(name, pa.int64() if name in _IDS else pa.string()) for name in _ANSWERED),
    ]
)


def read_lookups(lake: Lake) -> dict[LookupKey, Lookup]:
    """All answers kept. A line that is damaged is left out with a warning, and so asked for again.

    Raises:
        LakeError: The lake cannot be read.
    """
    return {
        lookup.key: lookup for by in LookupBy for path in _files(lake.lookups / by.value) for lookup in _read(path, by)
    }


def keep_lookup(lake: Lake, lookup: Lookup) -> None:
    """Keeps an answer, in place of an earlier one to the same question. Hold ``locks.sole_asker`` meanwhile.

    Raises:
        LakeError: The lake cannot be written; what was kept stays.
    """
    by = lookup.key.by
    path = lake.lookups / by.value / f"{lookup.key.bucket}.jsonl"
    kept = {one.key: one for one in _read(path, by)} | {lookup.key: lookup}
    write_whole(lake.root, path, b"".join(_line(kept[key]) for key in sorted(kept)))


def damaged_lookups(lake: Lake) -> Iterator[tuple[UPath, LookupBy, str]]:
    """The files of which something cannot be used, and what: one that is no file, or damaged lines.

    Raises:
        LakeError: The lake cannot be read.
    """
    for by in LookupBy:
        for path in _files(lake.lookups / by.value):
            if path.is_dir():
                yield path, by, "it is a folder"
                continue
            damaged = [number for number, lookup in _lines(path, by) if lookup is None]
            if damaged:
                lines = f"line {damaged[0]}" if len(damaged) == 1 else f"{len(damaged)} lines from {damaged[0]} on"
                yield path, by, f"{lines} cannot be used"


def mend_lookups(lake: Lake, path: UPath, by: LookupBy) -> UPath:
    """Sets a file aside and keeps what can be used of it; where it is then. Hold ``locks.sole_asker`` meanwhile.

    Raises:
        LakeError: The lake cannot be written.
    """
    kept = [] if path.is_dir() else [lookup for _, lookup in _lines(path, by) if lookup is not None]
    aside = set_aside(path, f"{path.name}.damaged")
    if kept:
        write_whole(lake.root, path, b"".join(map(_line, sorted(kept, key=lambda one: one.key))))
    return aside


def lookups_table(lookups: Iterable[Lookup]) -> pa.Table:
    """The answers that know something, with the schema ``LOOKUP_SCHEMA``."""
    rows = [
        {"asked_by": one.key.by.value, "value": one.key.value} | {name: getattr(one, name) for name in _ANSWERED}
        for one in lookups
        if one.version_id is not None
    ]
    return pa.Table.from_pylist(rows, schema=LOOKUP_SCHEMA)


def _files(folder: UPath) -> list[UPath]:
    with explained(folder, "read"):
        if not folder.is_dir():
            return []
        return sorted(path for path in folder.iterdir() if _FILE.fullmatch(path.name))


def _read(path: UPath, by: LookupBy) -> Iterator[Lookup]:
    for number, lookup in _lines(path, by):
        if lookup is None:
            log.warning(
                "%s, line %d is damaged: what it held is asked for again when it is needed; civitai-pipeline check "
                "--repair sets it aside",
                path,
                number,
            )
        else:
            yield lookup


def _lines(path: UPath, by: LookupBy) -> Iterator[tuple[int, Lookup | None]]:
    """The lines of a file by their numbers, None for those that are damaged."""
    with explained(path, "read"):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line:
            try:
                yield number, _lookup(orjson.loads(line), by)
            except (ValueError, TypeError, KeyError):
                yield number, None


def _line(lookup: Lookup) -> bytes:
    said = {name: value for name, value in asdict(lookup).items() if name in _ANSWERED and value is not None}
    line = {"key": lookup.key.value, "fetched_at": lookup.fetched_at} | said
    return orjson.dumps(line | {_CHECKSUM: zlib.crc32(orjson.dumps(line))}) + b"\n"


def _lookup(line: Any, by: LookupBy) -> Lookup:  # noqa: ANN401 - any JSON value
    if not isinstance(line, dict):
        raise TypeError("no object")
    # Lines had no checksum before this one.
    checksum = line.pop(_CHECKSUM, None)
    if checksum is not None and checksum != zlib.crc32(orjson.dumps(line)):
        raise ValueError("changed since it was written")
    said: dict[str, Any] = {name: line.get(name) for name in _ANSWERED}
    for name, value in said.items():
        is_id = type(value) is int and 1 <= value <= MAX_VERSION_ID
        if value is not None and not (is_id if name in _IDS else isinstance(value, str)):
            raise ValueError(name)
    fetched_at = datetime.fromisoformat(line["fetched_at"])
    if fetched_at.tzinfo is None:
        raise ValueError("a time without a zone")
    return Lookup(LookupKey(by, line["key"]), fetched_at, **said)
