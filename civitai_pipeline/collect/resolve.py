"""Asks the API what resources are: client and lake in, answers kept in the lake and counts out.

Belongs here: whom to ask about what, in which order, and when to stop. There is no cursor: an answer is kept
before the next question, so a run that was killed goes on where it stood. What the answers mean for the table
is decided in ``derive.prompt_resources``.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from civitai_pipeline.civitai.failures import ApiFailure, FailureKind
from civitai_pipeline.collect.options import LookupOptions
from civitai_pipeline.collect.summary import StopReason
from civitai_pipeline.lake.files import LakeError
from civitai_pipeline.lake.locks import LockedError, sole_asker
from civitai_pipeline.lake.lookups import Lookup, LookupBy, LookupKey, keep_lookup, read_lookups
from civitai_pipeline.prompts.text import storable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from civitai_pipeline.civitai.client import CivitaiClient
    from civitai_pipeline.civitai.payloads import ModelVersion
    from civitai_pipeline.lake.paths import Lake

log = logging.getLogger(__name__)

# The API answers some questions with an error every time. They must not keep it from being asked the others,
# nor may a host in trouble be asked hundreds of times.
MOST_FAILURES_IN_A_ROW = 5
# Of one question these failures may be; of all others, such as a refusal, the next question would be no better.
_OF_ONE_QUESTION = {
    FailureKind.SERVER_ERROR,
    FailureKind.UNDECODABLE,
    FailureKind.CONTRACT_CHANGED,
    FailureKind.NOT_FOUND,
}


@dataclass
class LookupSummary:
    """What a run looked up; complete at every moment.

    Attributes:
        wanted: Distinct version ids and hashes to be named.
        answered_before: How many of them the cache had an answer to.
        asked: Questions put to the API: ``known + unknown + failed``.
        known: Questions whose answer is a model version.
        unknown: Questions to which the API knows no answer.
        failed: Questions that brought no answer; a later run asks them again.
        left: What is wanted and has no answer yet.
        stop_reason: Why it stopped; None while it goes on.
        error: What went wrong and what to do.
        requests: Requests sent.
        retries: Requests sent again after a failure.
        waited_s: Seconds slept between a failure and the next try.
        elapsed_s: Seconds from beginning to end.
    """

    wanted: int = 0
    answered_before: int = 0
    asked: int = 0
    known: int = 0
    unknown: int = 0
    failed: int = 0
    left: int = 0
    stop_reason: StopReason | None = None
    error: str | None = None
    requests: int = 0
    retries: int = 0
    waited_s: float = 0.0
    elapsed_s: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """The summary as JSON values."""
        return asdict(self) | {"stop_reason": None if self.stop_reason is None else self.stop_reason.value}


def unanswered(lake: Lake, wanted: Sequence[LookupKey], now: datetime) -> list[LookupKey]:
    """What of ``wanted`` the cache has no answer to that still holds, in the same order.

    Raises:
        LakeError: The lake cannot be read.
    """
    kept = read_lookups(lake)
    return [key for key in wanted if key not in kept or not kept[key].is_good_at(now)]


def resolve(
    client: CivitaiClient,
    lake: Lake,
    wanted: Sequence[LookupKey],
    options: LookupOptions | None = None,
    *,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    on_lookup: Callable[[LookupSummary], None] | None = None,
) -> LookupSummary:
    """Looks up what has no answer yet, as far as the options allow, and keeps each answer at once.

    Trouble with the API or the lake is a stop reason in the summary, not an exception.

    Args:
        client: Speaks to the API.
        lake: Where the answers are kept.
        wanted: What to look up, the most urgent first.
        options: How much.
        clock: Says what time it is, by which unknown things are asked for again.
        on_lookup: Called with the summary after each question.
    """
    walk = _Walk(client, lake, options or LookupOptions(), clock, on_lookup)
    walk.summary.wanted = walk.summary.left = len(wanted)
    try:
        lake.check_writable()
        with sole_asker(lake):
            walk.ask_all(wanted)
    except LockedError as error:
        walk.stop(StopReason.CONFLICT, str(error))
    except LakeError as error:
        walk.stop(StopReason.LAKE_UNAVAILABLE, str(error))
    finally:
        walk.measure()
        client.reported = client.usage.copy()
    return walk.summary


class _Walk:
    def __init__(
        self,
        client: CivitaiClient,
        lake: Lake,
        options: LookupOptions,
        clock: Callable[[], datetime],
        on_lookup: Callable[[LookupSummary], None] | None,
    ) -> None:
        self._client, self._lake, self._options = client, lake, options
        self._clock, self._on_lookup = clock, on_lookup
        self._spent_before = client.usage.copy()
        self._started = time.monotonic()
        self._failures_in_a_row = 0
        self.summary = LookupSummary()

    def ask_all(self, wanted: Sequence[LookupKey]) -> None:
        summary = self.summary
        open_keys = dict.fromkeys(unanswered(self._lake, wanted, self._clock()))
        summary.left = len(open_keys)
        summary.answered_before = summary.wanted - summary.left
        for key in list(open_keys):
            # Answered meanwhile: a hash has led to the version.
            if key not in open_keys:
                continue
            if summary.asked >= self._options.max_lookups:
                return self.stop(StopReason.MAX_ITEMS)
            if time.monotonic() - self._started >= self._options.max_minutes * 60:
                return self.stop(StopReason.TIME_BUDGET)
            summary.asked += 1
            try:
                answers = self._ask(key)
            except ApiFailure as failure:
                if self._give_up_after(key, failure):
                    return self.stop(StopReason(failure.kind.stop_reason), str(failure))
            else:
                for answer in answers:
                    keep_lookup(self._lake, answer)
                    open_keys.pop(answer.key, None)
                summary.known += answers[0].version_id is not None
                summary.unknown += answers[0].version_id is None
                self._failures_in_a_row = 0
            summary.left = len(open_keys)
            self.measure()
            if self._on_lookup is not None:
                self._on_lookup(summary)
        return self.stop(StopReason.AT_END)

    def _ask(self, key: LookupKey) -> list[Lookup]:
        """The answer to a question, and to the one that it answers besides."""
        try:
            if key.by is LookupBy.HASH:
                found = self._client.model_version_by_hash(key.value)
            else:
                found = self._client.model_version(int(key.value))
        except ApiFailure as failure:
            # A 404 that is not in the API's words comes from a proxy or a wrong address, and says nothing of the thing.
            if failure.kind is not FailureKind.NOT_FOUND or not failure.is_in_words:
                raise
            return [Lookup(key, self._clock())]
        by_id = LookupKey(LookupBy.VERSION_ID, str(found.id))
        return [_answer(one, found, self._clock()) for one in dict.fromkeys((key, by_id))]

    def _give_up_after(self, key: LookupKey, failure: ApiFailure) -> bool:
        self.summary.failed += 1
        log.warning("no answer about %s %s: %s", key.by.value, key.value, failure)
        self._failures_in_a_row += 1
        return failure.kind not in _OF_ONE_QUESTION or self._failures_in_a_row >= MOST_FAILURES_IN_A_ROW

    def stop(self, reason: StopReason, error: str | None = None) -> None:
        self.summary.stop_reason, self.summary.error = reason, error

    def measure(self) -> None:
        spent = self._client.usage.since(self._spent_before)
        self.summary.requests, self.summary.retries = spent.requests, spent.retries
        self.summary.waited_s = spent.waited_s
        self.summary.elapsed_s = time.monotonic() - self._started


def _answer(key: LookupKey, found: ModelVersion, now: datetime) -> Lookup:
    model = found.model
    return Lookup(
        key,
        now,
        version_id=found.id,
        model_id=found.model_id,
        model_name=_text(None if model is None else model.name),
        version_name=_text(found.name),
        model_type=_text(None if model is None else model.type),
        base_model=_text(found.base_model),
    )


def _text(said: str | None) -> str | None:
    return None if said is None else storable(said)
