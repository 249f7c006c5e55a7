"""What can go wrong with a request, and the schedule that says which request it happens to.

Names, parameters and counting only. The replies some faults stand for are in ``replies_of_faults.py``, the
ones that break the connection in ``wire.py``, the ones that serve another page in ``listing.py``.
"""

from __future__ import annotations

import json
import random
import threading
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from civitai_pipeline.sandbox.options import SandboxError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

Endpoint = Literal["images", "models", "model-versions", "me", "any"]

# Answered without asking the endpoint.
REPLACING = (
    "rate_limited", "paging_cap", "server_error", "busy", "brownout", "bad_gateway_html", "timeout_html", "html_200",
    "invalid_json", "redirect_elsewhere", "cursor_dead", "cursor_filters", "unauthorized", "forbidden", "not_found",
    "region_blocked",
)  # fmt: skip
# The endpoint's own answer, changed.
RESHAPING = (
    "cut_json", "wrong_shape_items_missing", "wrong_shape_items_not_list", "wrong_shape_metadata_missing",
    "wrong_shape_top_level_list",
)  # fmt: skip
# Another page than the one asked for; no effect on other endpoints.
TWISTING = ("empty_no_cursor", "same_cursor", "restart_at_first_page", "repeat_previous_page")
# The endpoint's answer, badly delivered or not at all.
BREAKING = ("reset_before", "reset_headers", "reset_mid_body", "truncated", "slow", "stall", "oversized")
FAULT_NAMES = (*REPLACING, *RESHAPING, *TWISTING, *BREAKING)


@dataclass(frozen=True)
class Fault:
    """What happens to one request.

    Attributes:
        name: One of ``FAULT_NAMES``.
        retry_after: For 429, 503, 502 and 524: the ``Retry-After`` header in seconds, or a text sent as it
            is. None leaves the fault's own (2 for ``busy`` and ``brownout``, otherwise none).
        http_date: Writes ``retry_after`` as the HTTP date that many seconds from now.
        html: ``rate_limited`` answers with an HTML page instead of JSON.
        seconds: How long ``slow`` takes and how long ``stall`` is silent at most.
        size: Bytes after which ``oversized`` ends.
        location: Where ``redirect_elsewhere`` points.
        message: The text of ``server_error``.
    """

    name: str
    retry_after: float | str | None = None
    http_date: bool = False
    html: bool = False
    seconds: float = 30.0
    size: int = 2**31
    location: str = "https://elsewhere.invalid/api/v1/images"
    message: str = "Something went wrong"

    def __post_init__(self) -> None:
        if self.name not in FAULT_NAMES:
            raise SandboxError(f"no fault is named {self.name!r}; there are: {', '.join(FAULT_NAMES)}")

    @classmethod
    def named(cls, name: str, **parameters: object) -> Fault:
        """A fault from its name and parameters, as a schedule writes them.

        Raises:
            SandboxError: There is no such fault or parameter.
        """
        known = {entry.name for entry in fields(cls)}
        unknown = sorted(set(parameters) - known)
        if unknown:
            raise SandboxError(f"fault {name!r} has no parameter {unknown[0]!r}; there are: {', '.join(sorted(known))}")
        return cls(name=name, **parameters)  # type: ignore[arg-type]  # values come from JSON and are used as they are


@dataclass(frozen=True)
class FaultRule:
    """Which requests get a fault. All conditions given must hold; without any, every request gets it.

    Attributes:
        fault: The fault or its name.
        on: The kind of path counted: ``images``, ``models``, ``model-versions``, ``me`` or ``any``.
        nth: The nth matching request, counting from 1, or several such numbers.
        every: Every nth matching request.
        probability: The chance of each matching request, drawn from ``seed``.
        seed: Makes the chances the same in every run.
        cursor: Only requests with this ``cursor`` match; an empty text means requests without one.
        times: How often it happens at most; None for no limit.
    """

    fault: Fault | str
    on: Endpoint = "images"
    nth: int | Collection[int] | None = None
    every: int | None = None
    probability: float | None = None
    seed: int = 0
    cursor: str | None = None
    times: int | None = None

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, object]) -> FaultRule:
        """A rule from JSON: the rule's keys, with the fault's parameters beside them.

        Raises:
            SandboxError: A key or value cannot be used.
        """
        own = {entry.name for entry in fields(cls)} - {"fault"}
        rest = dict(mapping)
        name = rest.pop("fault", None)
        if not isinstance(name, str):
            raise SandboxError(f"a fault rule needs a 'fault' name: {json.dumps(mapping)}")
        rule = {key: rest.pop(key) for key in list(rest) if key in own}
        _check_types(name, mapping)
        return cls(Fault.named(name, **rest), **rule)  # type: ignore[arg-type]  # types were checked


# What JSON may hold for each key of a rule and each parameter of a fault.
_JSON_TYPES: Mapping[str, tuple[type, ...]] = {
    "on": (str,),
    "nth": (int, list),
    "every": (int,),
    "probability": (int, float),
    "seed": (int,),
    "cursor": (str,),
    "times": (int,),
    "retry_after": (int, float, str),
    "http_date": (bool,),
    "html": (bool,),
    "seconds": (int, float),
    "size": (int,),
    "location": (str,),
    "message": (str,),
}


def _check_types(name: str, mapping: Mapping[str, object]) -> None:
    for key, value in mapping.items():
        allowed = _JSON_TYPES.get(key, (object,))
        wrong_list = isinstance(value, list) and not all(isinstance(entry, int) for entry in value)
        if value is not None and (not isinstance(value, allowed) or wrong_list):
            names = " or ".join(kind.__name__ for kind in allowed)
            raise SandboxError(f"fault {name!r}: {key!r} takes {names}, not {json.dumps(value)}")


@dataclass
class _Counter:
    rule: FaultRule
    fault: Fault
    seen: int = 0
    fired: int = 0
    random: random.Random = field(default_factory=random.Random)

    @classmethod
    def of(cls, rule: FaultRule) -> _Counter:
        fault = Fault(rule.fault) if isinstance(rule.fault, str) else rule.fault
        if rule.on not in {"images", "models", "model-versions", "me", "any"}:
            raise SandboxError(f"fault {fault.name!r}: 'on' cannot be {rule.on!r}")
        return cls(rule, fault, random=random.Random(rule.seed))  # noqa: S311 - reproducible faults, no secret

    def fires(self, endpoint: str, cursor: str) -> bool:
        rule = self.rule
        if rule.on not in {endpoint, "any"} or (rule.cursor is not None and rule.cursor != cursor):
            return False
        self.seen += 1
        hit = (
            (rule.nth is None or self.seen in ({rule.nth} if isinstance(rule.nth, int) else rule.nth))
            and (rule.every is None or self.seen % rule.every == 0)
            # Drawn last, and for every match, so that the draws do not depend on the other rules.
            and (rule.probability is None or self.random.random() < rule.probability)
            and (rule.times is None or self.fired < rule.times)
        )
        self.fired += hit
        return hit


class FaultSchedule:
    """The rules of a server, tried in order: the first that fires decides. Safe for many threads.

    Args:
        rules: Rules, or mappings as in the JSON form.

    Raises:
        SandboxError: A rule cannot be used.
    """

    def __init__(self, rules: Iterable[FaultRule | Mapping[str, object]] = ()) -> None:
        self._lock = threading.Lock()
        self._counters: list[_Counter] = []
        self.set(rules)

    @classmethod
    def from_json(cls, path: str | Path) -> FaultSchedule:
        """A schedule from a file: a JSON list of rules, or an object with such a list under ``rules``.

        Raises:
            SandboxError: The file cannot be read or holds something else; the message names it.
        """
        try:
            loaded: object = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise SandboxError(f"cannot read the fault schedule {path}: {error.strerror}") from error
        except ValueError as error:
            raise SandboxError(f"the fault schedule {path} is not JSON: {error}") from error
        rules = loaded.get("rules") if isinstance(loaded, dict) else loaded
        if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
            raise SandboxError(f"the fault schedule {path} is not a list of rules")
        try:
            return cls(rules)
        except SandboxError as error:
            raise SandboxError(f"{path}: {error}") from error

    def set(self, rules: Iterable[FaultRule | Mapping[str, object]]) -> None:
        """Replaces all rules and starts counting anew.

        Raises:
            SandboxError: A rule cannot be used; the rules before stay.
        """
        counters = [
            _Counter.of(rule if isinstance(rule, FaultRule) else FaultRule.from_mapping(rule)) for rule in rules
        ]
        with self._lock:
            self._counters = counters

    def add(
        self,
        fault: Fault | str,
        *,
        on: Endpoint = "images",
        nth: int | Collection[int] | None = None,
        times: int | None = None,
    ) -> None:
        """Adds a rule behind the others; it counts from now on."""
        counter = _Counter.of(FaultRule(fault, on=on, nth=nth, times=times))
        with self._lock:
            self._counters.append(counter)

    def clear(self) -> None:
        """No more faults."""
        self.set(())

    def next(self, endpoint: str, cursor: str = "") -> Fault | None:
        """Counts a request and says what happens to it.

        Args:
            endpoint: The kind of path.
            cursor: The request's cursor, or an empty text.
        """
        with self._lock:
            # Every rule counts every request, whichever fires.
            firing = [counter.fault for counter in self._counters if counter.fires(endpoint, cursor)]
        return firing[0] if firing else None
