"""Seals: a table's file says in itself which table it is and what its bytes must add up to.

Parquet's own checksums cover the pages of rows, not the footer, where a flipped bit turns a column's bounds or where
a table came from into something else that reads well. So the footer holds a digest of the whole file, taken with
zeros in the digest's own place. What a seal that does not hold means for a reader is decided in ``tables``.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

SEAL_KEY = b"civitai_pipeline_seal"
_SEAL = re.compile(
    rb'\{"table":"([a-z_]{1,60})","model_version_id":([0-9]{1,10}),"sha256":"([0-9a-f]{64})"\}', re.ASCII
)
_DIGEST_BYTES = 32
_ZEROS = b"0" * 2 * _DIGEST_BYTES
# A Parquet file ends with its footer, the footer's length in four bytes, and these four.
_MAGIC = b"PAR1"
_TAIL = 8
# A footer says of each row group where its columns lie; that of ten million rows takes some megabytes.
_MOST_FOOTER_BYTES = 1 << 28
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Slot:
    """A seal that has a place in a file but no digest yet.

    Attributes:
        mark: What stands where the digest belongs; random, so that no text in the file can be taken for it.
    """

    mark: bytes

    @classmethod
    def in_footer(cls, writer: pq.ParquetWriter, table: str, version: int) -> Slot:
        """Gives a file that is being written a seal without a digest, before it is closed."""
        mark = secrets.token_hex(_DIGEST_BYTES)
        said = {"table": table, "model_version_id": version, "sha256": mark}
        writer.add_key_value_metadata({SEAL_KEY: orjson.dumps(said)})
        return cls(mark.encode())

    def fill(self, file: IO[bytes]) -> None:
        """Puts the digest into the finished file, opened for reading and writing."""
        start, footer = _footer(file)
        place = start + footer.index(self.mark)
        file.seek(place)
        file.write(_ZEROS)
        digest = _digest(file, place)
        file.seek(place)
        file.write(digest)


def seal_fault(file: IO[bytes], table: str, version: int) -> str | None:
    """What is wrong with a file by its seal, in a few words; None if nothing, or if it has none.

    Files had no seal before this one; they are taken as they are. Reads the whole file, before Arrow sees any of what
    may be damaged, and leaves it at its start.

    Args:
        file: The file.
        table: Which table it should be.
        version: The model version it should be of.
    """
    start, footer = _footer(file)
    fault = None
    found = next((seal for seal in _SEAL.finditer(footer) if _digest(file, start + seal.start(3)) == seal[3]), None)
    if found is not None:
        owner = found[1].decode(), int(found[2])
        fault = None if owner == (table, version) else f"it is table {owner[0]} of model version {owner[1]}"
    # A prompt may hold what looks like a seal, but none that holds; a file without its key was written before seals.
    elif SEAL_KEY in footer or _SEAL.search(footer):
        fault = "its bytes are not those that were written"
    file.seek(0)
    return fault


def unsealed(table: pa.Table) -> pa.Table:
    """``table`` without what its file says of its own bytes."""
    metadata = table.schema.metadata or {}
    return table.replace_schema_metadata({key: text for key, text in metadata.items() if key != SEAL_KEY} or None)


def _footer(file: IO[bytes]) -> tuple[int, bytes]:
    """Where the footer begins, and the footer; nothing where there is none."""
    end = file.seek(0, 2)
    file.seek(max(0, end - _TAIL))
    tail = file.read(_TAIL)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != _MAGIC or not 0 < length <= min(end - _TAIL, _MOST_FOOTER_BYTES):
        return 0, b""
    start = file.seek(end - _TAIL - length)
    return start, file.read(length)


def _digest(file: IO[bytes], place: int) -> bytes:
    """The digest of a file in hexadecimal digits, with zeros at ``place`` where the digest itself belongs."""
    digest = hashlib.sha256()
    file.seek(0)
    for begin, end in ((0, place), (place + len(_ZEROS), None)):
        file.seek(begin)
        left = end - begin if end is not None else None
        while left is None or left > 0:
            piece = file.read(_CHUNK if left is None else min(_CHUNK, left))
            if not piece:
                break
            digest.update(piece)
            left = left - len(piece) if left is not None else None
        if end is not None:
            digest.update(_ZEROS)
    return digest.hexdigest().encode("ascii")
