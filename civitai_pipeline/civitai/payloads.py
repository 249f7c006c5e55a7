"""The API's answers, typed at the edge: unknown fields are tolerated, missing ones are explicit.

Items of an image listing stay raw JSON here: what they mean is the business of ``prompts``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from civitai_pipeline.civitai.failures import ApiFailure, FailureKind
from civitai_pipeline.civitai.listing import MAX_ID

if TYPE_CHECKING:
    from civitai_pipeline.civitai.listing import Cursor

PayloadT = TypeVar("PayloadT", bound=BaseModel)

# A message names what it found, not all of it.
MAX_SHOWN = 100


def _date_or_none(value: object, read: ValidatorFunctionWrapHandler) -> object:
    try:
        return read(value) if isinstance(value, str) and len(value) >= len("2026-01-01") else None
    except ValidationError:
        return None


# Nothing hangs on a date, so one that cannot be read is as good as none.
_Date = Annotated[datetime | None, WrapValidator(_date_or_none)]


@dataclass(frozen=True)
class ImagePage:
    """One page of an image listing, as the API sent it.

    Attributes:
        items: The images, raw.
        metadata: The API's paging metadata, raw.
        next_cursor: Where the listing goes on; None at its end.
        raw: The body's bytes, with our own key redacted should the server have echoed it.
        url: The address asked, which never holds a key.
        fetched_at: When the answer was complete.
        elapsed_s: Seconds from sending the request to the complete answer.
    """

    items: list[Any]
    metadata: dict[str, Any]
    next_cursor: Cursor | None
    raw: bytes
    url: str
    fetched_at: datetime
    elapsed_s: float


def split_image_body(body: object) -> tuple[list[Any], dict[str, Any], Cursor | None]:
    """The items, metadata and next cursor of a listing's body.

    Raises:
        ApiFailure: The body is JSON of another shape than the API promises.
    """
    if not isinstance(body, dict):
        raise changed(f"the answer is a JSON {type(body).__name__}, not an object")
    items, metadata = body.get("items"), body.get("metadata")
    if not isinstance(items, list):
        raise changed("the answer has no list of items")
    if not isinstance(metadata, dict):
        raise changed("the answer has no metadata object")
    return items, metadata, _next_cursor(metadata)


def _next_cursor(metadata: dict[str, Any]) -> Cursor | None:
    cursor = metadata.get("nextCursor")
    # Until February 2024 the last page said null; since then it says nothing.
    if cursor is None:
        return None
    if isinstance(cursor, int) and not isinstance(cursor, bool):
        return cursor
    # A lone surrogate cannot be sent back, in a URL or otherwise.
    if isinstance(cursor, str) and cursor and not re.search("[\ud800-\udfff]", cursor):
        return cursor
    raise changed(f"metadata.nextCursor is {repr(cursor)[:MAX_SHOWN]}, neither text nor a whole number")


def changed(what: str) -> ApiFailure:
    """The failure of an answer that is not what the API promises."""
    return ApiFailure(
        FailureKind.CONTRACT_CHANGED,
        f"{what}: CivitAI's API no longer answers as this version of civitai-pipeline expects; "
        "look for an update before collecting on",
    )


def _storable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


# No file can hold a lone surrogate, which the site may let into a name; it becomes U+FFFD.
_Text = Annotated[str, AfterValidator(_storable)]


class _Payload(BaseModel):
    model_config = ConfigDict(extra="ignore", populate_by_name=True)


class ModelOfVersion(_Payload):
    """The ``model`` part of a model version."""

    name: _Text | None = None
    type: _Text | None = None


# Beyond these no id of the API's can lie; some columns could not hold it.
_Id = Annotated[int, Field(strict=True, ge=1, le=MAX_ID)]


class ModelVersion(_Payload):
    """What ``/model-versions/{id}`` and the look-ups by hash say; absent fields are None."""

    id: _Id
    model_id: _Id | None = Field(default=None, alias="modelId")
    name: _Text | None = None
    base_model: _Text | None = Field(default=None, alias="baseModel")
    air: _Text | None = None
    published_at: _Date = Field(default=None, alias="publishedAt")
    trained_words: list[_Text] | None = Field(default=None, alias="trainedWords")
    model: ModelOfVersion | None = None


class VersionOfModel(_Payload):
    """One entry of a model's ``modelVersions``; the model id is its parent's."""

    id: int
    name: _Text | None = None
    base_model: _Text | None = Field(default=None, alias="baseModel")
    published_at: _Date = Field(default=None, alias="publishedAt")


class Model(_Payload):
    """What ``/models/{id}`` says; versions in its maker's order, only the published ones."""

    id: int
    name: _Text | None = None
    type: _Text | None = None
    versions: list[VersionOfModel] = Field(default_factory=list, alias="modelVersions")


def parse_payload(kind: type[PayloadT], body: object) -> PayloadT:
    """``body`` as a ``kind``.

    Raises:
        ApiFailure: It has another shape than the API promises; the message names the fields.
    """
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        fields = ", ".join(sorted({".".join(map(str, e["loc"])) or "the whole answer" for e in error.errors()}))
        raise changed(f"the answer for a {kind.__name__} is off at {fields}") from None
