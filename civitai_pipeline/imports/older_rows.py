"""One row of the older tool's database: the API item it was made from, and the version it belongs to.

Pure functions over plain values. Where rows come from is in ``older_file``, where items go in ``landing``.
"""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from civitai_pipeline import jsontext
from civitai_pipeline.prompts.items import read_item
from civitai_pipeline.prompts.metadata import unwrapped
from civitai_pipeline.prompts.values import INT32_MAX, INT64_MAX, kind_of, parse_json, whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import tzinfo

# A ComfyUI graph can be a megabyte; what is larger than this is no metadata of an image.
MAX_RAW_CHARS = 16_000_000
# Python's own parser takes some hundred times the text's size, and gives up on some hundred levels with a crash of
# its stack, so what it is given is bounded far below that. Real items have eight levels, graphs in them a few more.
MAX_REPR_CHARS = 4_000_000
MAX_REPR_DEPTH = 90

_LITERALS = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
_NOTHING = {"", "null", "None", "{}", "''", '""'}
# Fields of the API's item that no metadata has: without any of them, a row's raw metadata is the image's own.
_ITEM_KEYS = {"id", "meta", "stats", "createdAt", "postId", "modelVersionIds", "browsingLevel", "nsfwLevel"}

Json = dict[str, Any]


class BrokenRowError(Exception):
    """A row cannot be read; the message says why in one sentence."""


@dataclass
class KnownVersions:
    """What the file says of models and versions elsewhere than in a row: its ``collection_state``.

    Attributes:
        versions: The versions that were collected.
        of_model: The versions that were collected of each model.
    """

    versions: set[int] = field(default_factory=set)
    of_model: dict[int, set[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, states: Iterable[Mapping[str, Any]]) -> KnownVersions:
        """What the rows of ``collection_state`` say; it kept one version under several keys."""
        known = cls()
        for state in states:
            version, model = _id(state.get("version_id")), _id(state.get("model_id"))
            if version is not None:
                known.versions.add(version)
                if model is not None and model != version:
                    known.of_model.setdefault(model, set()).add(version)
        return known


def version_of_row(columns: Mapping[str, Any], resources: Iterable[Mapping[str, Any]], known: KnownVersions) -> int:
    """The model version whose gallery a row's image was found in.

    The column says so, where the file has it. Older files tell it in their raw metadata, or by a model id that
    stands for a version; where these name several, one that was collected decides.

    Raises:
        BrokenRowError: Nothing tells, or several versions are named and nothing decides between them.
    """
    said = _id(columns.get("model_version_id"))
    if said is not None:
        return said
    try:
        item = parse_raw(columns.get("raw_metadata")) or {}
    except BrokenRowError:
        item = {}
    asked = _id(item.get("modelVersionId"))
    if asked is not None:
        return asked
    listed = item.get("modelVersionIds")
    candidates = {found for entry in (listed if isinstance(listed, list) else ()) if (found := _id(entry))}
    hint = _version_by_model(_id(columns.get("model_id")), known)
    if hint is not None and (not candidates or hint in candidates):
        return hint
    candidates = candidates or _checkpoints(item, resources)
    collected = candidates & known.versions
    for choice in (candidates, collected):
        if len(choice) == 1:
            return next(iter(choice))
    if not candidates:
        raise BrokenRowError("nothing in the row says which model version it was collected for")
    several = ", ".join(str(version) for version in sorted(candidates)[:5])
    raise BrokenRowError(f"the row names several model versions and none of them as the one collected ({several})")


def _version_by_model(model: int | None, known: KnownVersions) -> int | None:
    """The version that a row's model id leads to; the tool often filled that column with the version's id."""
    if model is None or model in known.versions:
        return model
    versions = known.of_model.get(model, set())
    return next(iter(versions)) if len(versions) == 1 else None


def _checkpoints(item: Json, resources: Iterable[Mapping[str, Any]]) -> set[int]:
    meta = _meta_of(item)
    entries = meta.get("civitaiResources")
    named = [
        (entry.get("type"), entry.get("modelVersionId"))
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict)
    ]
    named += [(row.get("resource_type"), row.get("resource_model_version_id")) for row in resources]
    return {
        version
        for kind, value in named
        if isinstance(kind, str) and kind.strip().lower() in {"checkpoint", "model"} and (version := _id(value))
    }


def item_of_row(columns: Mapping[str, Any], resources: Iterable[Mapping[str, Any]]) -> Json:
    """The API's item that a row was made from, rebuilt as far as the row holds it.

    The tool read reactions from a field that the API does not have. So a zero in its columns says nothing, and is
    left out.

    Raises:
        BrokenRowError: The row names no image, or its raw metadata cannot be read or is of another image.
    """
    image_id = image_of_row(columns)
    raw = parse_raw(columns.get("raw_metadata"))
    if raw is None:
        item = _rebuilt(image_id, columns, resources)
    elif not _ITEM_KEYS & raw.keys():
        item = {"id": image_id, "meta": raw}
    else:
        item = raw
    said = item.get("id")
    if said is not None and whole(said, 1, INT64_MAX) != image_id:
        raise BrokenRowError(f"the row is of image {image_id}, its raw metadata of another")
    item["id"] = image_id
    _fill_prompt(item, columns)
    return item


def image_of_row(columns: Mapping[str, Any]) -> int:
    """The image that a row is of.

    Raises:
        BrokenRowError: It names none.
    """
    image_id = whole(columns.get("civitai_id"), 1, INT64_MAX)
    if image_id is None:
        raise BrokenRowError("its civitai_id is not the id of an image")
    return image_id


def collected_at(value: object, zone: tzinfo) -> datetime | None:
    """A row's ``collected_at`` in UTC; None where it holds no time.

    Args:
        value: What the column holds.
        zone: The time zone of times that name none.
    """
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value.strip())
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def parse_raw(value: object) -> Json | None:
    """What a row's raw metadata says, written as JSON or as Python would print it; None where it is empty.

    Raises:
        BrokenRowError: It is neither, is no object, or is out of bounds.
    """
    parsed = value
    # One release wrapped the text in JSON once more.
    for _ in range(2):
        if parsed is None or (isinstance(parsed, str) and parsed.strip() in _NOTHING):
            return None
        if isinstance(parsed, str):
            parsed = _parsed(parsed.strip())
    if not isinstance(parsed, dict):
        raise BrokenRowError(f"its raw metadata is not an object but {kind_of(parsed)}")
    return parsed or None


def _parsed(text: str) -> object:
    if len(text) > MAX_RAW_CHARS:
        raise BrokenRowError(f"its raw metadata is longer than {MAX_RAW_CHARS:,} characters")
    try:
        return jsontext.loads(text)
    except jsontext.InvalidJsonError:
        # Python writes NaN where JSON has nothing to write.
        forgiven = parse_json(text)
    return forgiven if forgiven is not None else _from_repr(text)


def _from_repr(text: str) -> object:
    """What Python printed, read as literals only: nothing is ever executed."""
    if len(text) > MAX_REPR_CHARS:
        raise BrokenRowError(f"its raw metadata is no JSON and longer than {MAX_REPR_CHARS:,} characters")
    if _depth(text) > MAX_REPR_DEPTH:
        raise BrokenRowError(f"its raw metadata is nested deeper than {MAX_REPR_DEPTH} levels")
    try:
        with warnings.catch_warnings():
            # Of odd escapes in strings, which are the text's business.
            warnings.simplefilter("ignore")
            found = ast.literal_eval(text)
        return jsontext.loads(jsontext.dumps(found))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise BrokenRowError("its raw metadata is neither JSON nor a Python literal") from None


def _depth(text: str) -> int:
    """How deep brackets and signs nest outside of strings: each level, and each sign in a row, is a call."""
    deepest = level = signs = 0
    for char in _LITERALS.sub("s", text):
        if char in "([{":
            level += 1
        elif char in ")]}":
            level -= 1
        signs = signs + 1 if char in "+-~" else signs if char.isspace() else 0
        deepest = max(deepest, level + signs)
    return deepest


def _rebuilt(image_id: int, columns: Mapping[str, Any], resources: Iterable[Mapping[str, Any]]) -> Json:
    meta: Json = {}
    for row in resources:
        entry = _resource_entry(row)
        if entry:
            by_version = entry.keys() & {"modelVersionId", "modelVersionName", "air"}
            meta.setdefault("civitaiResources" if by_version else "resources", []).append(entry)
    stats = {
        name: count
        for name, column in (
            ("reactionCount", "reaction_count"),
            ("commentCount", "comment_count"),
            ("downloadCount", "download_count"),
        )
        if (count := whole(columns.get(column), 1))
    }
    return {"id": image_id, "createdAt": None, "meta": meta or None} | ({"stats": stats} if stats else {})


def _resource_entry(row: Mapping[str, Any]) -> Json:
    try:
        raw = parse_raw(row.get("resource_raw"))
    except BrokenRowError:
        # The columns beside it were made from it.
        raw = None
    if raw is not None:
        return raw
    entry = {
        "type": _said(row.get("resource_type")),
        "name": _said(row.get("resource_name")),
        "modelId": _id(row.get("resource_model_id")),
        "modelVersionId": _id(row.get("resource_model_version_id")),
        "hash": _said(row.get("resource_id")),
    }
    if entry["modelVersionId"] is not None:
        entry["modelName"] = entry.pop("name")
    return {key: value for key, value in entry.items() if value is not None}


def _fill_prompt(item: Json, columns: Mapping[str, Any]) -> None:
    """Gives an item without a prompt the one that the row's own column holds."""
    meta = _meta_of(item)
    prompt = meta.get("prompt")
    if isinstance(prompt, str) and prompt.strip():
        return
    text = columns.get("full_prompt")
    if not isinstance(text, str) or not text.strip() or read_item(item).prompt is not None:
        return
    filled = {**meta, "prompt": text}
    negative = columns.get("negative_prompt")
    if isinstance(negative, str) and negative and not isinstance(meta.get("negativePrompt"), str):
        filled["negativePrompt"] = negative
    item["meta"] = filled


def _meta_of(item: Json) -> Json:
    meta = unwrapped(item.get("meta"))
    return meta if isinstance(meta, dict) else {}


def _id(value: object) -> int | None:
    return whole(value, 1, INT32_MAX)


def _said(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() else None
