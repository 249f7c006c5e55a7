"""User names as hashes: stable, apart, not the names, and not to be looked up without the key."""

from __future__ import annotations

import stat
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from civitai_pipeline.export.authors import author_hash
from civitai_pipeline.export.options import ExportOptions
from civitai_pipeline.export.run import export_prompts
from civitai_pipeline.export.staging import ExportError
from civitai_pipeline.lake.files import LakeError
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline_tests.lake.examples import prompt_row, write_prompts

if TYPE_CHECKING:
    from pathlib import Path


def _hashes(lake: Lake, output: Path, **how: Any) -> list[str | None]:  # noqa: ANN401 - arguments of export_prompts
    export_prompts(lake, [], ExportOptions("parquet", hash_authors=True), output, **how)
    table = pq.read_table(str(output))
    assert "username" not in table.column_names
    found: list[str | None] = table.column("author_hash").to_pylist()
    return found


@given(st.text(), st.text(), st.binary(min_size=32, max_size=32))
def test_equal_names_and_no_others_have_equal_hashes(one: str, other: str, key: bytes) -> None:
    assert (author_hash(one, key) == author_hash(other, key)) == (one == other)
    assert author_hash(one, key) != author_hash(one, key[::-1] + b"x")


def test_two_exports_agree_and_another_lake_does_not(lake: Lake, tmp_path: Path) -> None:
    rows = [prompt_row(number, username=name) for number, name in enumerate(["ann", "bob", "ann", None])]
    write_prompts(lake, *rows)
    first = _hashes(lake, tmp_path / "one")
    assert first == _hashes(lake, tmp_path / "two")
    assert (first[0] == first[2], first[0] != first[1], first[3]) == (True, True, None)
    assert not {"ann", "bob", blake2b(b"ann", digest_size=16).hexdigest()} & set(first)
    other = Lake.at(str(tmp_path / "other"))
    write_prompts(other, *rows)
    assert _hashes(other, tmp_path / "three") != first


def test_a_key_file_makes_lakes_agree_and_leaves_none_in_them(lake: Lake, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"0123456789abcdef" * 10)
    other = Lake.at(str(tmp_path / "other"))
    for one in (lake, other):
        write_prompts(one, prompt_row(1, username="ann"))
    assert _hashes(lake, tmp_path / "one", key_file=key) == _hashes(other, tmp_path / "two", key_file=key)
    assert not lake.author_key.exists()


def test_the_lakes_key_is_random_its_owners_alone_and_never_replaced(lake: Lake, tmp_path: Path) -> None:
    write_prompts(lake, prompt_row(1, username="ann"))
    _hashes(lake, tmp_path / "one")
    key = lake.author_key.read_bytes()
    assert len(key) == 32
    assert stat.S_IMODE(lake.author_key.parent.stat().st_mode) == 0o700
    _hashes(lake, tmp_path / "one")
    assert lake.author_key.read_bytes() == key
    lake.author_key.write_bytes(b"")
    with pytest.raises(LakeError, match=r"authors is damaged: .*restore it, or remove it for a new key"):
        _hashes(lake, tmp_path / "one")


def test_a_key_that_is_short_or_missing_is_told(lake: Lake, tmp_path: Path) -> None:
    write_prompts(lake, prompt_row(1))
    (tmp_path / "short").write_bytes(b"0123456789abcde")
    with pytest.raises(ExportError, match="must hold at least 16 bytes, not 15"):
        _hashes(lake, tmp_path / "one", key_file=tmp_path / "short")
    with pytest.raises(ExportError, match="cannot read the key file"):
        _hashes(lake, tmp_path / "one", key_file=tmp_path / "missing")
    assert not (tmp_path / "one").exists()


def test_without_hashing_no_key_is_made(lake: Lake, tmp_path: Path) -> None:
    write_prompts(lake, prompt_row(1))
    export_prompts(lake, [], ExportOptions("csv"), tmp_path / "out.csv")
    assert not lake.author_key.exists()
