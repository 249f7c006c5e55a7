"""The row that says what the API says of a version."""

from __future__ import annotations

from civitai_pipeline.civitai.client import CivitaiClient
from civitai_pipeline.derive.version_info import info_row, unknown_info
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.tables import schema_faults
from civitai_pipeline.sandbox import DEMO_VERSIONS, Sandbox, World

from .landing import VERSION


def test_a_version_the_api_knows_has_its_names() -> None:
    with Sandbox(World.synthetic(images=10)) as server:
        client = CivitaiClient(server.url, min_request_interval=0)
        row = info_row(client.model_version(DEMO_VERSIONS[0]))
        known = server.world.versions[DEMO_VERSIONS[0]]
    (said,) = row.to_pylist()
    assert (said["model_version_id"], said["model_id"], said["version_name"]) == (known.id, known.model_id, known.name)
    assert said["model_name"] == server.world.models[known.model_id].name
    assert said["fetched_at"] is not None
    assert schema_faults(schemas.MODEL_VERSION_INFO, row) == []


def test_a_version_not_asked_about_has_its_id_alone() -> None:
    row = unknown_info(VERSION)
    assert {name: value for name, value in row.to_pylist()[0].items() if value is not None} == {
        "model_version_id": VERSION
    }
    assert schema_faults(schemas.MODEL_VERSION_INFO, row) == []
