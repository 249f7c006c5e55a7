"""Resources: the API client, the lake, the taxonomy and the progress listener, made from the environment when used."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import dagster as dg

from civitai_pipeline.civitai.client import CivitaiClient
from civitai_pipeline.collect.resolve import LookupSummary
from civitai_pipeline.collect.summary import Summary
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.prompts.categories import Categorizer
from civitai_pipeline.prompts.taxonomy import Taxonomy, TaxonomyError, load_taxonomy
from civitai_pipeline.settings import Settings, SettingsError, load_settings
from civitai_pipeline.upkeep.processes import process_tags


class Progress(Protocol):
    """Hears of what a run does while it does it; Dagster's own log is written besides."""

    def on_page(self, summary: Summary) -> None:
        """A page has landed."""

    def on_fold(self, version: int, folded: int, pages: int) -> None:
        """Of the landed pages that a version's tables do not cover yet, some are in them now."""

    def on_lookup(self, summary: LookupSummary) -> None:
        """A resource has been asked about."""


class NoProgress:
    """A listener that does nothing."""

    def on_page(self, summary: Summary) -> None:
        """Does nothing."""

    def on_fold(self, version: int, folded: int, pages: int) -> None:
        """Does nothing."""

    def on_lookup(self, summary: LookupSummary) -> None:
        """Does nothing."""


class CivitaiApi(dg.ConfigurableResource["CivitaiApi"]):
    """The CivitAI API, as the environment describes it (see ``.env.example``)."""

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Lets a run that is to ask the API name its process.

        By that, one whose process died without a word is told apart from one that is only slow. A run may wait for its
        turn at the API for hours before its first step, and a machine that starts anew meanwhile gives the process's
        id, which alone stands in the run's log, to another.
        """
        if context.instance is not None and context.run is not None:
            context.instance.add_run_tags(context.run.run_id, process_tags())

    def client(self) -> CivitaiClient:
        """This process's client, which keeps its distance between requests across assets.

        Raises:
            dagster.Failure: The environment holds something unusable.
        """
        return client_for(_settings())

    def default_browsing_level(self) -> int:
        """The maturity bits to ask for where a run does not say."""
        return _settings().browsing_level

    def site(self) -> str:
        """Scheme and host of the site, where the pages of images are.

        That of the API, so that a report on what the stand-in made up does not lead to images of real people.
        """
        parts = urlsplit(_settings().base_url)
        return f"{parts.scheme}://{parts.netloc}"


class LakeStore(dg.ConfigurableResource["LakeStore"]):
    """The lake, as the environment describes it (``CIVITAI_LAKE``)."""

    def lake(self) -> Lake:
        """The lake.

        Raises:
            dagster.Failure: The environment holds something unusable.
        """
        return Lake.at(_settings().lake)

    def report_url(self, name: str) -> str | None:
        """Where a report is served (``CIVITAI_REPORT_URL``); None if that is not said.

        Args:
            name: The report's name in the folder of reports.

        Raises:
            dagster.Failure: The environment holds something unusable.
        """
        base = _settings().report_url
        return None if base is None else f"{base}/{name}"


def categorizer_in_use() -> Categorizer:
    """What finds categories by the taxonomy that the environment names (``CIVITAI_TAXONOMY``).

    One alone in the process for as long as the file says the same: it takes half a second to prepare.

    Raises:
        dagster.Failure: The environment holds something unusable, or the file does.
    """
    named = _settings().taxonomy
    try:
        return _categorizer(load_taxonomy(None if named is None else Path(named).expanduser()))
    except TaxonomyError as error:
        raise dg.Failure(
            f"{error} (CIVITAI_TAXONOMY names this file; civitai-pipeline taxonomy --check FILE checks one)"
            if named
            else str(error),
            allow_retries=False,
        ) from None


def client_for(settings: Settings) -> CivitaiClient:
    """The process's client for these settings; one alone, so that its spacing holds across its users."""
    return _client(
        settings.base_url,
        settings.api_key,
        min_request_interval=settings.min_request_interval,
        timeout=settings.timeout,
        retry_budget=settings.retry_budget,
    )


_categorizer: Callable[[Taxonomy], Categorizer] = lru_cache(maxsize=1)(Categorizer)
_client: Callable[..., CivitaiClient] = lru_cache(maxsize=8)(CivitaiClient)


def _settings() -> Settings:
    try:
        return load_settings()
    except SettingsError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
