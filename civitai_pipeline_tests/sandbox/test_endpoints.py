"""Models, versions, look-ups by hash, keys and headers."""

from __future__ import annotations

import pytest
import requests

from civitai_pipeline.sandbox import Sandbox, SandboxOptions, World

from .client import TIMEOUT_S, get, item, page

PUBLIC = "public, s-maxage=300, stale-while-revalidate=150"


def test_a_model_lists_its_versions_latest_first_without_nulls(server: Sandbox) -> None:
    body = get(server, "models/9001").json()
    assert (body["id"], body["name"], body["type"]) == (9001, "Harbor Light XL", "Checkpoint")
    assert [version["id"] for version in body["modelVersions"]] == [910013, 910012, 910011]
    assert body["allowCommercialUse"] == "{Image,RentCivit}"
    for version in body["modelVersions"]:
        assert not {"modelId", "air"} & set(version)
        assert all(value not in (None, []) for value in version.values())
    assert "images" not in body["modelVersions"][0]
    showcase = body["modelVersions"][1]["images"]
    assert len(showcase) == 20
    assert not {"id", "meta"} & set(showcase[0])
    assert isinstance(showcase[0]["nsfwLevel"], int)
    assert body["modelVersions"][1]["files"][0]["primary"] is True
    assert "primary" not in body["modelVersions"][1]["files"][1]


def test_a_version_keeps_its_nulls(server: Sandbox) -> None:
    body = get(server, "model-versions/910011").json()
    assert body["modelId"] == 9001
    assert body["air"] == "urn:air:sdxl:checkpoint:civitai:9001@910011"
    assert body["model"] == {"name": "Harbor Light XL", "type": "Checkpoint", "nsfw": False, "poi": False}
    assert body["description"] is None
    assert body["trainedWords"] == []
    assert [file["primary"] for file in body["files"]] == [True, False]
    assert len(body["images"]) == 10


def test_hidden_meta_leaks_where_the_api_leaks_it() -> None:
    world = World.from_items([item(1)])
    with Sandbox(world) as server:
        world.hide_meta(1)
        assert page(server, modelVersionId=910011, withMeta="true")["items"][0]["meta"] is None
        (image,) = get(server, "model-versions/910011").json()["images"]
        assert image["hasMeta"] is False
        assert image["meta"] == {"prompt": "kite number 1"}


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("models/abc", 400, "\u2716 Invalid input: expected number, received NaN\n  \u2192 at id"),
        ("models/0", 400, "\u2716 Too small: expected number to be >0\n  \u2192 at id"),
        ("models/1.5", 400, "\u2716 Invalid input: expected int, received number\n  \u2192 at id"),
        ("models/2147483648", 400, "\u2716 Too big: expected number to be <=2147483647\n  \u2192 at id"),
        ("models/910011", 404, "No model with id 910011"),
        ("model-versions/abc", 400, "\u2716 Invalid input: expected number, received NaN\n  \u2192 at id"),
        ("model-versions/0", 400, "Missing modelVersionId"),
        ("model-versions/9001", 404, "Model not found"),
        ("model-versions/2147483648", 500, "Failed to fetch model version details"),
        ("model-versions/by-hash/FFFF", 404, "Model not found"),
        ("nothing", 404, "Not found"),
    ],
)
def test_errors(server: Sandbox, path: str, status: int, error: str) -> None:
    response = get(server, path)
    assert (response.status_code, response.json()) == (status, {"error": error})


def test_model_ids_are_no_version_ids(world: World) -> None:
    assert not set(world.models) & set(world.versions)


def test_only_get_on_a_version(server: Sandbox) -> None:
    response = requests.post(f"{server.url}/api/v1/model-versions/910011", data=b"x" * 1000, timeout=TIMEOUT_S)
    assert (response.status_code, response.json()) == (405, {"error": "Method not allowed"})
    assert requests.post(f"{server.url}/api/v1/images?modelVersionId=910011", timeout=TIMEOUT_S).status_code == 200


def test_an_unpublished_version_is_gone_and_one_without_files_is_said_to_miss_them() -> None:
    world = World.synthetic(images=20)
    with Sandbox(world) as server:
        world.remove_version(910013)
        assert get(server, "model-versions/910013").status_code == 404
        assert len(get(server, "models/9001").json()["modelVersions"]) == 2


def test_by_hash_ignores_case_and_prefers_the_earliest(server: Sandbox) -> None:
    for digest in ("a1c0ffee02", "A1C0FFEE02"):
        response = get(server, f"model-versions/by-hash/{digest}")
        assert response.json()["id"] == 910012
        assert response.headers["Cache-Control"] == "public, s-maxage=3600, stale-while-revalidate=1800"
    # Both versions ship this file.
    assert get(server, "model-versions/by-hash/5A5A5A5A00").json()["id"] == 910011


def test_headers(server: Sandbox) -> None:
    for path in ("images", "images?sort=x", "models/1", "model-versions/1", "images?page=999"):
        response = requests.get(f"{server.url}/api/v1/{path}", timeout=TIMEOUT_S)
        assert response.headers["Cache-Control"] == PUBLIC, path
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert response.headers["Access-Control-Allow-Methods"] == "GET"
        assert response.headers["X-Handled-By"] == "sandbox-0"
        assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    preflight = requests.options(f"{server.url}/api/v1/images", timeout=TIMEOUT_S)
    assert (preflight.status_code, preflight.content) == (200, b"")
    head = requests.head(f"{server.url}/api/v1/images?modelVersionId=910011", timeout=TIMEOUT_S)
    assert int(head.headers["Content-Length"]) > 1000


def test_keys() -> None:
    with Sandbox(World.synthetic(images=20), SandboxOptions(api_keys=("good",))) as server:

        def me(**kwargs: dict[str, str]) -> int:
            return requests.get(f"{server.url}/api/v1/me", timeout=TIMEOUT_S, **kwargs).status_code  # type: ignore[arg-type]  # headers or params

        assert me(headers={"Authorization": "Bearer good"}) == me(headers={"Authorization": "Any good"}) == 200
        assert me(params={"token": "good"}) == 200
        assert me(headers={"Authorization": "good"}) == 401
        # The header wins.
        assert me(headers={"Authorization": "Bearer bad"}, params={"token": "good"}) == 401
        assert me() == 401
        assert get(server, "me").json() == {"error": "Unauthorized"}
        bad = requests.get(f"{server.url}/api/v1/images", headers={"Authorization": "Bearer bad"}, timeout=TIMEOUT_S)
        assert bad.status_code == 200
        url = f"{server.url}/api/v1/model-versions/910011"
        signed_in = requests.get(url, headers={"Authorization": "Bearer good"}, timeout=TIMEOUT_S)
        assert "public" not in signed_in.headers["Cache-Control"]
        assert server.requests[-1].headers["authorization"] == "Bearer good"


def test_echoes_of_secrets_can_be_switched(world: World) -> None:
    with Sandbox(world, SandboxOptions(token_echo=False, authorization_echo=True)) as server:
        response = requests.get(
            f"{server.url}/api/v1/images?token=abc&limit=1", headers={"Authorization": "Bearer xyz"}, timeout=TIMEOUT_S
        )
        metadata = response.json()["metadata"]
        assert "token" not in metadata["nextPage"]
        assert metadata["authorization"] == "Bearer xyz"


def test_a_blocked_region(world: World) -> None:
    with Sandbox(world, SandboxOptions(region_blocked=True)) as server:
        for path in ("images", "models/9001", "me"):
            response = get(server, path)
            assert response.status_code == 451
            assert response.json()["code"] == "REGION_BLOCKED"


def test_resources_of_images_are_found_by_id_and_by_hash_and_some_by_neither(server: Sandbox, world: World) -> None:
    ids: set[int] = set()
    digests: set[str] = set()
    for image in world.images:
        fields = image.item()
        meta = fields.get("meta") if isinstance(fields, dict) else None
        if isinstance(meta, dict):
            ids.update(entry["modelVersionId"] for entry in meta.get("civitaiResources", []))
            digests.update(meta.get("hashes", {}).values())
    for version in ids:
        response = get(server, f"model-versions/{version}")
        assert (response.status_code == 200) == (version in world.versions)
    for digest in digests:
        response = get(server, f"model-versions/by-hash/{digest}")
        if response.status_code == 200:
            assert response.json() == get(server, f"model-versions/{response.json()['id']}").json()
    assert {get(server, f"model-versions/{version}").status_code for version in ids} == {200, 404}
    assert {get(server, f"model-versions/by-hash/{digest}").status_code for digest in digests} == {200, 404}
