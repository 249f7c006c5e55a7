"""Reading parameters, and the 400s."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import requests

from civitai_pipeline.sandbox.params import js_number

from .client import TIMEOUT_S, get

if TYPE_CHECKING:
    from civitai_pipeline.sandbox import Sandbox


def issues(response: requests.Response) -> list[dict[str, object]]:
    assert response.status_code == 400
    error = response.json()["error"]
    assert set(error) == {"name", "message"}
    assert error["name"] == "ZodError"
    assert isinstance(error["message"], str)
    found: list[dict[str, object]] = json.loads(error["message"])
    return found


@pytest.mark.parametrize(
    ("name", "value", "code", "message"),
    [
        ("limit", "201", "too_big", "Too big: expected number to be <=200"),
        ("limit", "-1", "too_small", "Too small: expected number to be >=0"),
        ("limit", "abc", "custom", "'abc' cannot be converted to a number"),
        ("modelVersionId", "1_000", "custom", "'1_000' cannot be converted to a number"),
        ("browsingLevel", "all", "custom", "'all' cannot be converted to a number"),
        ("tags", "1,x", "custom", "'x' cannot be converted to a number"),
        ("sort", "newest", "invalid_value", 'Invalid option: expected one of "Most Reactions"'),
        ("period", "Hour", "invalid_value", "Invalid option"),
        ("type", "model", "invalid_value", "Invalid option"),
        ("baseModels", "SDXL 1.0,Nothing", "invalid_value", "Invalid option"),
        ("nsfw", "Everything", "invalid_union", "Invalid input"),
        ("nsfw", "", "invalid_union", "Invalid input"),
        ("withMeta", "", "invalid_union", "Invalid input"),
        ("withMeta", "maybe", "invalid_union", "Invalid input"),
        ("username", "not-a-name", "invalid_format", "Invalid string"),
    ],
)
def test_a_bad_value_is_a_zod_400(server: Sandbox, name: str, value: str, code: str, message: str) -> None:
    (issue,) = issues(get(server, **{name: value}))
    assert issue["code"] == code
    assert issue["path"] == [name]
    assert str(issue["message"]).startswith(message)


@pytest.mark.parametrize("name", ["limit", "sort", "cursor", "withMeta", "username", "nsfw"])
def test_a_repeated_scalar_is_a_400(server: Sandbox, name: str) -> None:
    response = requests.get(f"{server.url}/api/v1/images?{name}=1&{name}=2", timeout=TIMEOUT_S)
    assert [issue["path"] for issue in issues(response)] == [[name]]


def test_all_failing_fields_are_listed(server: Sandbox) -> None:
    found = issues(get(server, limit=500, sort="x", withMeta="x"))
    assert [issue["path"] for issue in found] == [["limit"], ["sort"], ["withMeta"]]
    assert found[0]["maximum"] == 200


@pytest.mark.parametrize("yes", ["true", "1", "yes", "on", "Y", "ENABLED"])
@pytest.mark.parametrize("no", ["false", "0", "no", "OFF", "n", "disabled"])
def test_boolean_vocabulary(server: Sandbox, yes: str, no: str) -> None:
    body = get(server, modelVersionId=910011, limit=50, withMeta=yes, flatMeta=no).json()
    assert all("id" in entry["meta"] for entry in body["items"])


def test_unknown_parameters_are_dropped(server: Sandbox) -> None:
    assert get(server, modelVersionId=910011, limit=1, whatever="x").status_code == 200


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("", 0),
        ("  ", 0),
        (" 5 ", 5),
        ("1e2", 100),
        ("0x10", 16),
        ("-3.5", -3.5),
        (".5", 0.5),
        ("nan", None),
        ("5a", None),
    ],
)
def test_numbers_are_read_as_javascript_reads_them(text: str, number: float | None) -> None:
    assert js_number(text) == number
