"""The watchlist: the file that says which models and versions to keep up to date, and how.

What is done with it is decided in ``upkeep``. Knows neither Dagster nor the lake.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from civitai_pipeline.civitai.listing import ALL_LEVELS, DEFAULT_PAGE_SIZE, MAX_ID, MAX_PAGE_SIZE, Sort
from civitai_pipeline.collect.options import DEFAULT_MAX_LOOKUPS

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

# As many as one run can count.
MOST_ITEMS = 2**31 - 1


class WatchlistError(ValueError):
    """The watchlist cannot be used; the message has one line for each fault, naming file and place."""


def _sort(value: object) -> object:
    return Sort.from_flag(value) if isinstance(value, str) else value


def _nothing_is_empty(value: object) -> object:
    """A list whose entries are all commented out reads as null."""
    return [] if value is None else value


_Id = Annotated[int, Field(ge=1, le=MAX_ID)]
_Level = Annotated[int, Field(ge=1, le=ALL_LEVELS)]


class Options(BaseModel):
    """How a version is collected and kept up to date. What is left out is taken from further up.

    Attributes:
        sort: The order to walk in.
        browsing_levels: The maturity masks to ask for, each a listing of its own; ``CIVITAI_BROWSING_LEVEL`` if
            empty.
        strict_version_match: Accept only images that name the version as their checkpoint.
        append_only: Never change a row already held.
        max_items: Items after which a run stops; None for no limit.
        max_minutes: Minutes after which a run stops; None for no limit.
        page_size: Items to ask for at a time.
        resolve_resources: Whether the API is asked for the names of resources.
        max_lookups: Resources after which a run asks for no more.
        resume: Whether open walks are gone on with.
        resume_canceled: Whether also those whose last run somebody cancelled.
        refresh: Whether finished walks are topped up.
        audit: Whether the listings are walked anew now and then.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    sort: Annotated[Sort, BeforeValidator(_sort)] = Sort.OLDEST
    browsing_levels: list[_Level] = Field(default=[], min_length=1)
    strict_version_match: bool = False
    append_only: bool = False
    max_items: Annotated[int, Field(ge=1, le=MOST_ITEMS)] | None = None
    max_minutes: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    page_size: int = Field(default=DEFAULT_PAGE_SIZE, ge=1, le=MAX_PAGE_SIZE)
    resolve_resources: bool = False
    max_lookups: int = Field(default=DEFAULT_MAX_LOOKUPS, ge=1, le=MOST_ITEMS)
    resume: bool = True
    resume_canceled: bool = False
    refresh: bool = True
    audit: bool = True

    @field_validator("browsing_levels")
    @classmethod
    def _no_level_twice(cls, levels: list[int]) -> list[int]:
        return list(_distinct(levels))

    def said(self) -> dict[str, Any]:
        """The options that the file gives here."""
        return {name: getattr(self, name) for name in self.model_fields_set if name in Options.model_fields}


class WatchedModel(Options):
    """A model: its options hold for all its versions.

    Attributes:
        id: The model's id.
        discover: Whether versions published later are collected too.
    """

    id: _Id
    discover: bool = True


class WatchedVersion(Options):
    """A model version.

    Attributes:
        id: The version's id.
    """

    id: _Id


class Watchlist(BaseModel):
    """What to keep up to date.

    Attributes:
        defaults: The options where neither a model nor a version says otherwise.
        models: The models watched.
        versions: The versions watched.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    defaults: Annotated[Options, BeforeValidator(lambda value: {} if value is None else value)] = Options()
    models: Annotated[list[WatchedModel], BeforeValidator(_nothing_is_empty)] = []
    versions: Annotated[list[WatchedVersion], BeforeValidator(_nothing_is_empty)] = []

    @field_validator("models", "versions")
    @classmethod
    def _no_id_twice(cls, entries: list[Any]) -> list[Any]:
        list(_distinct(entry.id for entry in entries))
        return entries

    def watches(self, version_id: int, model_id: int | None) -> bool:
        """Whether a version is listed, itself or by its model."""
        listed = any(version.id == version_id for version in self.versions)
        return listed or any(model.id == model_id for model in self.models)

    def options_for(self, version_id: int, model_id: int | None = None) -> Options:
        """How to collect a version: what is said of it, else of its model, else by default.

        Args:
            version_id: The version.
            model_id: Its model; None if unknown.
        """
        said = self.defaults.said()
        for model in self.models:
            if model.id == model_id:
                said |= model.said()
        for version in self.versions:
            if version.id == version_id:
                said |= version.said()
        return Options(**said)


def load_watchlist(path: str | Path) -> Watchlist:
    """Reads a watchlist; a file that does not exist watches nothing.

    Raises:
        WatchlistError: It cannot be read, or something in it is wrong.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Watchlist()
    except UnicodeDecodeError:
        raise WatchlistError(f"{file}: this is no text in UTF-8") from None
    except OSError as error:
        raise WatchlistError(f"{file}: cannot be read: {error.strerror or error}") from None
    try:
        content = yaml.load(text, _Loader)  # noqa: S506 - a kind of SafeLoader
    except yaml.YAMLError as error:
        raise WatchlistError(f"{file}: {_yaml_fault(error)}") from None
    if content is None:
        return Watchlist()
    if not isinstance(content, dict):
        raise WatchlistError(f"{file}: there must be 'defaults:', 'models:' and 'versions:', not a {_kind(content)}")
    try:
        return Watchlist.model_validate(content)
    except ValidationError as error:
        raise WatchlistError("\n".join(f"{file}: {line}" for line in _faults(error))) from None


class _Loader(yaml.SafeLoader):
    """Refuses a key given twice, of which YAML would silently drop the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - YAML's signature
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is given twice", key.start_mark)
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _distinct(values: Iterable[int]) -> Iterator[int]:
    counted = Counter(values)
    twice = [str(value) for value, count in counted.items() if count > 1]
    if twice:
        raise ValueError(f"{', '.join(twice)} is listed twice")
    return iter(counted)


def _yaml_fault(error: yaml.YAMLError) -> str:
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    mark = error.problem_mark
    return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem or error.context}"


def _kind(value: object) -> str:
    return {list: "list", str: "text", int: "number", float: "number", bool: "truth value"}.get(type(value), "thing")


_ADVICE = {
    "extra_forbidden": "there is no such option",
    "missing": "is missing",
    "model_type": "must be options such as 'id: 128713', each on a line of its own",
    "list_type": "must be a list",
    "too_short": "must not be empty; leave it out instead",
}


def _faults(error: ValidationError) -> Iterator[str]:
    for fault in error.errors(include_url=False, include_context=True):
        what = _ADVICE.get(fault["type"]) or fault["msg"].removeprefix("Value error, ")
        shown = fault["type"] not in {"missing", "extra_forbidden", "value_error"} and not isinstance(
            fault["input"], (dict, list)
        )
        yield f"{_place(fault['loc'])}: {what}" + (f", not {fault['input']!r}" if shown else "")


def _place(where: tuple[int | str, ...]) -> str:
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")
