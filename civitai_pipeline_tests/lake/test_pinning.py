"""Tables pinned for DuckDB stay as they are, whatever is put in their places."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from civitai_pipeline.lake.database import connect, read_all
from civitai_pipeline.lake.files import TMP_DIR, LakeError
from civitai_pipeline.lake.pinning import pinned
from civitai_pipeline.lake.schemas import PROMPTS
from civitai_pipeline_tests.lake.examples import VERSION, prompt_row, write_prompts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from civitai_pipeline.lake.paths import Lake


def test_what_is_swapped_in_does_not_show_and_nothing_is_left(lake: Lake) -> None:
    write_prompts(lake, prompt_row(1))
    with pinned(lake) as still, connect(still) as connection:
        write_prompts(lake, prompt_row(1), prompt_row(2))
        assert connection.sql("SELECT count(*) FROM prompts").fetchall() == [(1,)]
    assert list((lake.root / TMP_DIR).iterdir()) == []
    with pinned(lake) as still, connect(still) as connection:
        assert connection.sql("SELECT count(*) FROM prompts").fetchall() == [(2,)]


@contextmanager
def writing_without_rest(lake: Lake) -> Iterator[None]:
    """A writer that puts tables of 10, 29 and 17 rows in place, again and again."""
    rows = [prompt_row(image_id, prompt="kite " * image_id) for image_id in range(1, 30)]
    write_prompts(lake, *rows)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for count in (10, 29, 17):
                write_prompts(lake, *rows[:count])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        stop.set()
        writer.join()


def test_queries_beside_a_writer_that_never_rests_all_succeed(lake: Lake) -> None:
    with writing_without_rest(lake):
        for _ in range(12):
            with pinned(lake) as still, connect(still) as connection:
                for _ in range(3):
                    [(count, largest)] = connection.sql("SELECT count(*), max(image_id) FROM images_unique").fetchall()
                    assert count == largest


def test_tables_are_pinned_however_often_they_are_replaced(lake: Lake) -> None:
    write_prompts(lake, prompt_row(1))
    path, stop = lake.table(PROMPTS, VERSION), threading.Event()
    held = path.read_bytes()

    def replace() -> None:
        scratch = lake.root / "scratch"
        while not stop.is_set():
            scratch.write_bytes(held)
            scratch.replace(path)

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        for _ in range(3000):
            with pinned(lake, [PROMPTS]) as still:
                assert still.root != lake.root
                assert still.table(PROMPTS, VERSION).exists()
    finally:
        stop.set()
        writer.join()


def test_a_table_of_all_versions_is_read_beside_a_writer_that_never_rests(lake: Lake) -> None:
    with writing_without_rest(lake):
        for _ in range(60):
            ids = read_all(lake, PROMPTS).column("image_id").to_pylist()
            assert len(ids) == max(ids)
    assert list((lake.root / TMP_DIR).iterdir()) == []


def test_trouble_names_the_tables_own_place(lake: Lake) -> None:
    write_prompts(lake, prompt_row(1))
    with pytest.raises(LakeError) as caught, pinned(lake) as still:
        raise LakeError(f"cannot read {still.table(PROMPTS, VERSION)}")
    assert str(caught.value) == f"cannot read {lake.root}/prompts/{VERSION}.parquet"


def test_a_lake_without_tables_is_pinned_too(lake: Lake) -> None:
    with pinned(lake) as still, connect(still) as connection:
        assert connection.sql("SELECT count(*) FROM prompts").fetchall() == [(0,)]
