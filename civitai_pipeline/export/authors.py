"""User names turned into hashes that agree between exports and cannot be looked up without the key.

A plain hash would not do: user names are public, so anybody could hash them all and compare.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from hashlib import blake2b
from typing import TYPE_CHECKING

from civitai_pipeline.lake.files import LakeError, create_exclusively, explained

if TYPE_CHECKING:
    from pathlib import Path

    from civitai_pipeline.lake.paths import Lake

_KEY_BYTES = 32
# Fewer could be tried out.
_LEAST_KEY_BYTES = 16


class KeyFileError(Exception):
    """The key file cannot be used; the message says why."""


def author_key(lake: Lake, key_file: Path | None = None) -> bytes:
    """The key that user names are hashed with.

    Args:
        lake: Keeps a key of its own, made at random when it is first needed.
        key_file: A file whose bytes are the key instead, for exports of several lakes that shall agree.

    Raises:
        KeyFileError: ``key_file`` cannot be read, or holds too little.
        LakeError: The lake's key cannot be read or made.
    """
    if key_file is None:
        return _stretched(_key_of(lake))
    try:
        key = key_file.read_bytes()
    except OSError as error:
        raise KeyFileError(f"cannot read the key file {key_file}: {error.strerror or error}") from error
    if len(key) < _LEAST_KEY_BYTES:
        raise KeyFileError(f"the key file {key_file} must hold at least {_LEAST_KEY_BYTES} bytes, not {len(key)}")
    return _stretched(key)


def author_hash(name: str, key: bytes) -> str:
    """The hash of a user name: 128 bits of keyed BLAKE2b, as 32 hexadecimal digits."""
    return blake2b(name.encode("utf-8", "surrogatepass"), key=key, digest_size=16, person=b"author").hexdigest()


def _key_of(lake: Lake) -> bytes:
    path = lake.author_key
    with explained(path.parent, "write to", answers=()):
        # Who else may use this machine need not read it.
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        create_exclusively(lake.root, path, secrets.token_bytes(_KEY_BYTES))
    with explained(path, "read", answers=()):
        key: bytes = path.read_bytes()
    if len(key) < _LEAST_KEY_BYTES:
        raise LakeError(f"{path} is damaged: it must hold {_KEY_BYTES} bytes; restore it, or remove it for a new key")
    return key


def _stretched(key: bytes) -> bytes:
    # BLAKE2b takes at most 64 bytes of key; a file may hold more.
    return blake2b(key, digest_size=_KEY_BYTES).digest()
