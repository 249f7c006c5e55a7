"""What look-ups do to the table of resources: they fill what is null, and show which rows are one resource."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from civitai_pipeline.derive.prompt_resources import lookup_keys
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.lookups import Lookup, LookupBy, LookupKey, lookups_table
from civitai_pipeline.lake.rows import HeldRows
from civitai_pipeline.lake.tables import schema_faults
from civitai_pipeline_tests.tables import build_resources

from .landing import Pages, image

if TYPE_CHECKING:
    import pyarrow as pa

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
HASH, LONG = "a1b2c3d4e5", "a1b2c3d4e5ff"


def by_id(version: int) -> LookupKey:
    return LookupKey(LookupBy.VERSION_ID, str(version))


def by_hash(digest: str) -> LookupKey:
    return LookupKey(LookupBy.HASH, digest)


def known(key: LookupKey, version: int = 7, model: int | None = 5, kind: str | None = "LORA") -> Lookup:
    return Lookup(key, NOON, version, model, "Kite", "v2", kind, "SDXL 1.0")


def table_of(*lookups: Lookup) -> pa.Table:
    return lookups_table(lookups)


def prompts_of(pages: Pages, *metas: dict[str, Any]) -> pa.Table:
    """The prompts table of images with these metadata, numbered from 1."""
    pages.land(*(image(number, meta={"prompt": "a kite"} | meta) for number, meta in enumerate(metas, start=1)))
    return pages.build().prompts


def rows_of(table: pa.Table, image_id: int = 1) -> list[dict[str, Any]]:
    assert schema_faults(schemas.PROMPT_RESOURCES, table) == []
    return [row for row in table.to_pylist() if row["image_id"] == image_id]


def civitai(version: int, **more: object) -> dict[str, Any]:
    return {"modelVersionId": version, "type": "lora", **more}


def test_a_row_with_an_id_alone_gets_a_name_and_a_model(pages: Pages) -> None:
    prompts = prompts_of(pages, {"civitaiResources": [civitai(7)]})
    (row,) = rows_of(build_resources(prompts, table_of(known(by_id(7)))))
    assert (row["resource_name"], row["resource_model_id"], row["resource_version_id"]) == ("Kite", 5, 7)
    assert (row["resolved_by"], row["resolved_name"]) == ("version_id", "Kite")
    assert (row["resolved_version_name"], row["resolved_base_model"]) == ("v2", "SDXL 1.0")


def test_a_row_with_a_hash_keeps_its_name_and_gets_ids(pages: Pages) -> None:
    prompts = prompts_of(pages, {"resources": [{"type": "lora", "name": "my_kite", "hash": HASH.upper()}]})
    (row,) = rows_of(build_resources(prompts, table_of(known(by_hash(HASH), kind="Checkpoint"))))
    assert (row["resource_name"], row["resource_model_id"], row["resource_version_id"]) == ("my_kite", 5, 7)
    assert (row["resource_type"], row["resource_hash"]) == ("lora", HASH)
    assert (row["resolved_by"], row["resolved_name"]) == ("hash", "Kite")


@pytest.mark.parametrize(
    ("spelled", "kind"),
    [("LORA", "lora"), ("LoCon", "lycoris"), ("TextualInversion", "embedding"), ("Hypernetwork", "hypernet"),
     ("Checkpoint", "checkpoint"), ("Workflows", "workflows"), (None, "unknown")],
)  # fmt: skip
def test_a_type_nobody_gave_is_taken_from_the_answer(pages: Pages, spelled: str | None, kind: str) -> None:
    prompts = prompts_of(pages, {"versionIds": [7]})
    assert rows_of(build_resources(prompts))[0]["resource_type"] == "unknown"
    (row,) = rows_of(build_resources(prompts, table_of(known(by_id(7), kind=spelled))))
    assert row["resource_type"] == kind


def test_an_answer_that_contradicts_the_metadata_fills_nothing(pages: Pages) -> None:
    air = "urn:air:sdxl:lora:civitai:4@7"
    prompts = prompts_of(
        pages,
        {"civitaiResources": [civitai(7, modelId=4)]},
        {"additionalResources": [{"name": air, "type": "lora"}]},
    )
    made = build_resources(prompts, table_of(known(by_id(7))))
    for image_id in (1, 2):
        (row,) = rows_of(made, image_id)
        assert (row["resource_name"], row["resource_model_id"], row["resolved_by"]) == (None, 4, None)


def test_what_is_unknown_or_never_asked_stays_as_it_was(pages: Pages) -> None:
    prompts = prompts_of(pages, {"civitaiResources": [civitai(7)], "hashes": {"lora:x": HASH}})
    bare = build_resources(prompts)
    assert build_resources(prompts, None).equals(bare)
    unknown = table_of(Lookup(by_id(7), NOON), Lookup(by_hash(HASH), NOON))
    assert build_resources(prompts, unknown).equals(bare)
    assert build_resources(prompts, table_of(known(by_id(8)), known(by_hash("ffffffff")))).equals(bare)
    assert {row["resolved_by"] for row in rows_of(bare)} == {None}


def test_a_table_follows_what_was_looked_up_since(pages: Pages) -> None:
    prompts = prompts_of(pages, {"civitaiResources": [civitai(7), civitai(8)]})
    first = build_resources(prompts, table_of(known(by_id(7))))
    second = build_resources(prompts, table_of(known(by_id(7)), known(by_id(8), 8)))
    assert [row["resource_name"] for row in rows_of(first)] == ["Kite", None]
    assert [row["resource_name"] for row in rows_of(second)] == ["Kite", "Kite"]


def test_rows_that_a_hash_shows_to_be_one_resource_become_one(pages: Pages) -> None:
    meta = {
        "civitaiResources": [civitai(9), civitai(7)],
        "resources": [{"type": "lora", "name": "my_kite", "hash": HASH, "weight": 0.7}],
        "VAE": "a.vae",
    }
    prompts = prompts_of(pages, meta, meta)
    assert [row["position"] for row in rows_of(build_resources(prompts), 2)] == [0, 1, 2, 3]
    made = build_resources(prompts, table_of(known(by_id(7)), known(by_hash(HASH))))
    for image_id in (1, 2):
        rows = rows_of(made, image_id)
        assert [(row["position"], row["resource_version_id"]) for row in rows] == [(0, 9), (1, 7), (2, None)]
        one = rows[1]
        # The name in the metadata goes before the one of the API, though it stands in the later row.
        assert (one["resource_name"], one["resolved_name"]) == ("my_kite", "Kite")
        assert (one["resource_hash"], one["weight"], one["source"]) == (HASH, 0.7, "civitai_resources")
        assert one["sources"] == ["civitai_resources", "resources"]
        assert one["resolved_by"] == "version_id"


def test_two_hashes_of_one_version_become_one_row_with_the_longer_hash(pages: Pages) -> None:
    other = "0123456789abcdef"
    prompts = prompts_of(pages, {"hashes": {"lora:one": HASH, "lora:two": other}})
    made = build_resources(prompts, table_of(known(by_hash(HASH)), known(by_hash(other))))
    (row,) = rows_of(made)
    assert (row["resource_name"], row["resource_hash"], row["sources"]) == ("one", other, ["hashes"])


def test_what_most_images_lack_a_name_for_is_asked_about_first(pages: Pages) -> None:
    prompts = prompts_of(
        pages,
        {"civitaiResources": [civitai(7)], "hashes": {"lora:x": HASH}},
        {"civitaiResources": [civitai(8)], "hashes": {"lora:x": HASH}},
        {"civitaiResources": [civitai(8)], "hashes": {"lora:x": HASH}, "VAE": "no.hash"},
        {"civitaiResources": [civitai(9, modelId=5, modelName="Kite"), civitai(2**31), civitai(2**60)]},
    )
    assert lookup_keys(HeldRows(prompts)) == [by_hash(HASH), by_id(8), by_id(7)]


def test_no_prompts_ask_for_nothing(pages: Pages) -> None:
    assert lookup_keys(HeldRows(pages.build().prompts)) == []


HASHES = ("a1b2c3d4e5", "0123456789ab", "ffffffff00")
METAS = st.fixed_dictionaries(
    {},
    optional={
        "civitaiResources": st.lists(st.integers(1, 4).map(civitai), max_size=3),
        "hashes": st.dictionaries(st.sampled_from(["lora:a", "model", "b"]), st.sampled_from(HASHES), max_size=3),
        "versionIds": st.lists(st.integers(1, 4), max_size=2),
        "Model": st.sampled_from(["mix", "urn:air:sdxl:checkpoint:civitai:5@2"]),
    },
)
ANSWERS = st.lists(
    st.builds(
        known,
        st.sampled_from(HASHES).map(by_hash) | st.integers(1, 4).map(by_id),
        st.integers(1, 4),
        st.none() | st.integers(5, 6),
        st.sampled_from(["LORA", None]),
    ),
    max_size=6,
)


@settings(max_examples=10)
@given(st.lists(METAS, min_size=1, max_size=3), ANSWERS)
def test_whatever_the_answers_the_metadata_stands_and_no_version_stands_twice(
    tmp_path_factory: pytest.TempPathFactory, metas: list[dict[str, Any]], answers: list[Lookup]
) -> None:
    pages = Pages(tmp_path_factory.mktemp("lake"))
    prompts = prompts_of(pages, *metas)
    bare = build_resources(prompts)
    made = build_resources(prompts, table_of(*{one.key: one for one in answers}.values()))
    for image_id in range(1, len(metas) + 1):
        before, after = rows_of(bare, image_id), rows_of(made, image_id)
        assert [row["position"] for row in after] == list(range(len(after)))
        ids = [row["resource_version_id"] for row in after if row["resource_version_id"] is not None]
        assert len(ids) == len(set(ids))
        for column in ("resource_version_id", "resource_model_id"):
            said = {row[column] for row in before} - {None}
            assert said <= {row[column] for row in after}
        assert {s for row in before for s in row["sources"]} == {s for row in after for s in row["sources"]}
        if len(before) == len(after):
            for old, new in zip(before, after, strict=True):
                kept = {name: value for name, value in old.items() if value is not None and value != "unknown"}
                assert {name: new[name] for name in kept} == kept
