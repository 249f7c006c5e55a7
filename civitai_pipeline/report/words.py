"""The contract's words in sentences, and numbers and dates as the pages write them.

Nothing here looks at a table; text that users wrote is handled in ``text``.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

UNKNOWN = "unknown"

# Below this many observations a chart says that it is thin: a share then moves by several points
# when one image is added.
THIN = 30

STOP_REASONS = {
    "at_end": "it reached the end of the listing: everything the API had to show was fetched",
    "max_items": "it had fetched as many items as it was asked for; the listing goes on",
    "time_budget": "its time was up; the listing goes on and the next run continues there",
    "canceled": "somebody cancelled it; what had landed was kept",
    "stalled": "the API kept sending the same page or cursor; the walk cannot go on by itself",
    "rate_limited": "the API kept asking it to slow down for longer than it was allowed to wait",
    "api_unavailable": "the API did not answer properly, time and again",
    "rejected": "the API refused the request; trying again will not help",
    "contract_changed": "the API's answer no longer has the expected shape",
    "conflict": "another process is collecting this version",
    "lake_unavailable": "the lake could not be read or written; the disk may be full, or a file damaged",
    "internal_error": "it broke off: its process died, or the program met something it was not made for",
}

# The same for a table's cell.
_SHORT_STOP_REASONS = {
    "at_end": "end reached",
    "max_items": "enough items",
    "time_budget": "time was up",
    "canceled": "cancelled",
    "stalled": "same page again",
    "rate_limited": "told to slow down",
    "api_unavailable": "no proper answer",
    "rejected": "request refused",
    "contract_changed": "API changed",
    "conflict": "collected elsewhere",
    "lake_unavailable": "lake unavailable",
    "internal_error": "broke off",
}

OUTCOMES = {
    "new": "new",
    "updated": "updated",
    "duplicate": "already held, unchanged",
    "no_prompt": "without a prompt",
    "version_mismatch": "not made with this version, by its own metadata",
    "malformed": "not understood",
}

_LEVELS = ((1, "PG"), (2, "PG-13"), (4, "R"), (8, "X"), (16, "XXX"))
ALL_LEVELS = sum(bit for bit, _ in _LEVELS)


# The order that a listing names whose pages came from the older tool: no order was walked, and no level asked for.
IMPORTED = "Import"


def level_names(bits: int | None) -> str:
    """The maturity levels in a bitmask, as ``PG, PG-13``."""
    if bits is None:
        return UNKNOWN
    return ", ".join(name for bit, name in _LEVELS if bits & bit) or f"level {bits}"


def plural(count: int, noun: str, several: str | None = None) -> str:
    """The count and its noun, as ``1 page`` or ``1,200 pages``."""
    return f"{count:,} {noun if count == 1 else several or noun + 's'}"


def share(part: float, whole: float) -> str:
    """A percentage that never rounds something to nothing or nearly all to all; no line breaks before its sign."""
    if not whole:
        return "—"
    percent = 100 * part / whole
    if 0 < percent < 0.1:  # noqa: PLR2004 - the smallest share one decimal can show
        return "<0.1\u00a0%"
    if 99.9 < percent < 100:  # noqa: PLR2004 - the largest below everything that one decimal can show
        return ">99.9\u00a0%"
    return f"{percent:.0f}\u00a0%" if percent in {0, 100} else f"{percent:.1f}\u00a0%"


def number(value: float | None, decimals: int = 2) -> str:
    """A number without idle zeros, as ``1,234`` or ``0.75``; a dash where there is none."""
    if value is None:
        return "—"
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def as_moment(value: object) -> datetime | None:
    """A moment in UTC from a datetime or ISO 8601 text; None for anything else."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def moment(value: object) -> str:
    """A moment to the minute, in UTC."""
    known = as_moment(value)
    return f"{known:%Y-%m-%d %H:%M} UTC" if known else UNKNOWN


def day(value: object) -> str:
    """A moment's date in UTC."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    known = as_moment(value)
    return f"{known:%Y-%m-%d}" if known else UNKNOWN


def span(oldest: object, newest: object) -> str:
    """The dates between which something lies; a dash where neither is known."""
    if as_moment(oldest) is None and as_moment(newest) is None:
        return "—"
    return f"{day(oldest)} to {day(newest)}"


def stop_reason(reason: object) -> str:
    """Why a run stopped, as the end of a sentence."""
    return STOP_REASONS.get(str(reason), f"of “{reason}”, which this report has no words for")


def short_stop_reason(reason: object) -> str:
    """Why a run stopped, in two or three words."""
    return _SHORT_STOP_REASONS.get(str(reason), str(reason)) if reason else UNKNOWN


def version_title(info: Mapping[str, Any], model_version_id: object) -> str:
    """The version's name for headings; its id where the API has not been asked yet."""
    names = [str(info[key]) for key in ("model_name", "version_name") if info.get(key)]
    return " · ".join(names) or f"Model version {model_version_id}"
