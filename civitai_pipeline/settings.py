"""The environment, read and validated in one place.

Nothing is read at import: call :func:`load_settings` where a value is needed. Every variable is listed
in ``.env.example``.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from civitai_pipeline.civitai.hosts import is_loopback

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_BASE_URL = "https://civitai.com"
DEFAULT_LAKE = "data"
DEFAULT_DAGSTER_HOME = ".dagster"
EXAMPLE_REPORT_URL = "http://127.0.0.1:8700"
DEFAULT_WATCHLIST = "watchlist.yaml"
# Five bits: PG, PG-13, R, X, XXX. The API strips anything above, so asking for it would lie.
ALL_BROWSING_LEVELS = 31
# Clocks and sockets overflow far beyond it.
MAX_SECONDS = 86_400.0


class SettingsError(ValueError):
    """An environment variable holds something unusable; the message names it and what it takes."""


@dataclass(frozen=True)
class Settings:
    """What the environment says.

    Attributes:
        base_url: Scheme, host and port of the API, without a trailing slash.
        api_key: The API key, or None to collect anonymously. Kept out of ``repr``.
        lake: The folder or bucket that holds everything.
        dagster_home: Dagster's instance folder, absolute.
        min_request_interval: Seconds between the starts of two requests; 0 is legal.
        timeout: Seconds to wait for the server to say something.
        retry_budget: Seconds to spend waiting between the tries of one request.
        browsing_level: The maturity bits to ask for, 1 to 31.
        watchlist: The file that says what to keep up to date.
        taxonomy: The file with the words of the categories, or None for the one that comes with the package.
        report_url: Where the lake's folder of reports is served, without a trailing slash, or None if it is not.
        failure_webhook: Where failed runs are told of, or None to tell nobody. Kept out of ``repr``: such
            addresses hold secrets.
    """

    base_url: str = DEFAULT_BASE_URL
    api_key: str | None = field(default=None, repr=False)
    lake: str = DEFAULT_LAKE
    dagster_home: Path = Path(DEFAULT_DAGSTER_HOME)
    min_request_interval: float = 1.0
    timeout: float = 60.0
    retry_budget: float = 120.0
    browsing_level: int = 1
    watchlist: str = DEFAULT_WATCHLIST
    taxonomy: str | None = None
    report_url: str | None = None
    failure_webhook: str | None = field(default=None, repr=False)


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Reads and validates the environment.

    Args:
        environ: The variables to read; the process's own by default.

    Raises:
        SettingsError: A variable holds something unusable.
    """
    env = os.environ if environ is None else environ
    base_url = _address("CIVITAI_BASE_URL", _text(env, "CIVITAI_BASE_URL") or DEFAULT_BASE_URL, DEFAULT_BASE_URL)
    report_url = _text(env, "CIVITAI_REPORT_URL")
    if report_url is not None:
        report_url = _address("CIVITAI_REPORT_URL", report_url, EXAMPLE_REPORT_URL)
    api_key = _text(env, "CIVITAI_API_KEY")
    if api_key is not None:
        _check_api_key(api_key, base_url)
    return Settings(
        base_url=base_url,
        api_key=api_key,
        lake=_text(env, "CIVITAI_LAKE") or DEFAULT_LAKE,
        dagster_home=_folder(env, "DAGSTER_HOME", DEFAULT_DAGSTER_HOME),
        min_request_interval=_seconds(env, "CIVITAI_MIN_REQUEST_INTERVAL", 1.0, zero_is_legal=True),
        timeout=_seconds(env, "CIVITAI_TIMEOUT", 60.0),
        retry_budget=_seconds(env, "CIVITAI_RETRY_BUDGET", 120.0, zero_is_legal=True),
        browsing_level=_browsing_level(env, "CIVITAI_BROWSING_LEVEL"),
        watchlist=_text(env, "CIVITAI_WATCHLIST") or DEFAULT_WATCHLIST,
        taxonomy=_text(env, "CIVITAI_TAXONOMY"),
        report_url=report_url,
        failure_webhook=_webhook(_text(env, "CIVITAI_FAILURE_WEBHOOK")),
    )


def _text(env: Mapping[str, str], name: str) -> str | None:
    return env.get(name, "").strip() or None


def _webhook(text: str | None) -> str | None:
    # The address itself is left out of the error: it may hold a secret.
    if text is not None and not text.startswith(("http://", "https://")):
        raise SettingsError("CIVITAI_FAILURE_WEBHOOK must be an http or https address")
    return text


def _address(name: str, text: str, example: str) -> str:
    problem = f"{name} must be an http or https address like {example}"
    if not text.isprintable() or " " in text:
        raise SettingsError(f"{problem}, without spaces")
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise SettingsError(problem) from None
    if parts.username is not None or parts.password is not None:
        key = "; the key goes in CIVITAI_API_KEY" if name == "CIVITAI_BASE_URL" else ""
        raise SettingsError(f"{name} must not hold a user name or password{key}")
    if "?" in text or "#" in text:
        # Not repeated in the message: it may hold a key.
        raise SettingsError(f"{problem}, without anything after ? or #")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SettingsError(f"{problem}, not {text!r}")
    return text.rstrip("/")


def _check_api_key(api_key: str, base_url: str) -> None:
    if not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise SettingsError("CIVITAI_API_KEY holds characters that no key has; copy it again from the site")
    parts = urlsplit(base_url)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise SettingsError(
            "CIVITAI_API_KEY would travel unencrypted: use an https CIVITAI_BASE_URL, or leave the key unset"
        )


def _seconds(env: Mapping[str, str], name: str, default: float, *, zero_is_legal: bool = False) -> float:
    text = _text(env, name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= MAX_SECONDS or (value == 0 and not zero_is_legal):
        least = "0 or more" if zero_is_legal else "more than 0"
        raise SettingsError(f"{name} must be a number of seconds, {least} and at most a day, not {text!r}")
    return value


def _folder(env: Mapping[str, str], name: str, default: str) -> Path:
    try:
        return Path(_text(env, name) or default).expanduser().resolve()
    except (RuntimeError, ValueError, OSError) as error:
        raise SettingsError(f"{name} cannot be a folder: {error}") from error


def _browsing_level(env: Mapping[str, str], name: str) -> int:
    text = _text(env, name)
    if text is None:
        return 1
    if text not in map(str, range(1, ALL_BROWSING_LEVELS + 1)):
        raise SettingsError(
            f"{name} must be a sum of 1 (PG), 2 (PG-13), 4 (R), 8 (X), 16 (XXX), from 1 to 31, not {text!r}"
        )
    return int(text)
