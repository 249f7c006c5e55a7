"""The HTTP client: one request at a time, politely spaced, bounded in time, size and tries.

What an answer means is decided in ``failures`` and ``payloads``; this module only carries it. The API key
goes into the ``Authorization`` header of requests to the configured host and nowhere else.
"""

from __future__ import annotations

import logging
import random
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.auth import AuthBase
from requests.structures import CaseInsensitiveDict

from civitai_pipeline import jsontext
from civitai_pipeline.civitai.failures import ApiFailure, FailureKind, classify_status
from civitai_pipeline.civitai.hosts import is_loopback
from civitai_pipeline.civitai.payloads import ImagePage, Model, ModelVersion, changed, parse_payload, split_image_body
from civitai_pipeline.civitai.redaction import Redactor

if TYPE_CHECKING:
    from civitai_pipeline.civitai.listing import Cursor, Listing

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
MAX_RETRIES = 5
# A look-up only adds names to a run; it must not hold up the run for as long as a page may.
MAX_LOOKUP_RETRIES = 2
FIRST_BACKOFF_S = 0.5
# A server that drips a byte within every read timeout would otherwise be read for ever.
MAX_READ_TIMEOUTS = 5
# 200 items with a ComfyUI graph of 1 MB each are the worst that the API can honestly send.
MAX_BODY_BYTES = 256 * 2**20
MAX_ERROR_BYTES = 64 * 2**10
CHUNK_BYTES = 64 * 2**10
MAX_REDIRECTS = 3
# The API's own edge cache answers the same URL for this long, so asking again sooner brings nothing.
LOOKUP_TTL_S = 300.0
FAILED_LOOKUP_TTL_S = 30.0
_HASH = re.compile(r"[0-9A-Fa-f]{8,64}")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass
class Usage:
    """What a client has spent so far.

    Attributes:
        requests: Requests sent.
        retries: Requests sent again after a failure.
        waited_s: Seconds slept between a failure and the next try.
    """

    requests: int = 0
    retries: int = 0
    waited_s: float = 0.0

    def since(self, earlier: Usage) -> Usage:
        """What has been spent since ``earlier`` was copied."""
        return Usage(self.requests - earlier.requests, self.retries - earlier.retries, self.waited_s - earlier.waited_s)

    def copy(self) -> Usage:
        """The figures as they stand now."""
        return Usage(self.requests, self.retries, self.waited_s)


@dataclass(frozen=True)
class _Answer:
    raw: bytes
    body: Any
    url: str
    fetched_at: datetime
    elapsed_s: float


@dataclass
class _KeyAuth(AuthBase):
    """Sets the key itself, which also keeps ``requests`` from taking one out of ``~/.netrc``."""

    api_key: str | None = field(repr=False)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.api_key is not None:
            request.headers["Authorization"] = f"Bearer {self.api_key}"
        return request


class _Session(requests.Session):
    """Keeps ``requests`` from looking into redirects, for which it would read their bodies without any bound."""

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002 - a method of requests
        return None


def _quotes_no_headers(record: logging.LogRecord) -> bool:
    """False for urllib3's warning of headers that are none: it quotes them, and a server may put the key there."""
    return not str(record.msg).startswith("Failed to parse headers")


class CivitaiClient:
    """A client of one CivitAI host.

    Not for use by several threads at once: one request in flight is part of being polite.

    Attributes:
        usage: What has been spent so far.
        reported: What of it stands in a run's summary already; look-ups before a run count for it.
        min_request_interval: Seconds between the starts of two requests.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        min_request_interval: float = 1.0,
        timeout: float = 60.0,
        retry_budget: float = 120.0,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        """A client that has sent nothing yet.

        Args:
            base_url: Scheme, host and port, without a trailing slash.
            api_key: The key to send, or None to be anonymous.
            min_request_interval: Seconds between the starts of two requests.
            timeout: Seconds to wait for the server to say something.
            retry_budget: Seconds to spend waiting between the tries of one request.
            max_body_bytes: The largest answer to take in.
        """
        self._base_url = base_url
        self._timeout = timeout
        self._retry_budget = retry_budget
        self.min_request_interval = min_request_interval
        self._max_body_bytes = max_body_bytes
        self._last_start = float("-inf")
        self._lookups: dict[int, tuple[float, ModelVersion | ApiFailure]] = {}
        self.usage = Usage()
        self.reported = Usage()
        logging.getLogger("urllib3.connection").addFilter(_quotes_no_headers)
        self._session = _Session()
        self._session.auth = _KeyAuth(api_key)
        self._redactor = Redactor(api_key)
        self._session.headers["Accept"] = "application/json"
        self._session.headers["User-Agent"] = "civitai-pipeline"
        # A proxy named in the environment would see the key of a plain-http request to this machine.
        self._session.trust_env = not is_loopback(urlsplit(self._base_url).hostname or "")

    def images(self, listing: Listing, *, limit: int, cursor: Cursor | None = None) -> ImagePage:
        """One page of a listing.

        Args:
            listing: What is being walked.
            limit: Items to ask for, 1 to 200; a page may hold fewer and still not be the last.
            cursor: Where to go on; None asks for the first page.

        Raises:
            ApiFailure: No usable answer came within the bounds on tries and time.
        """
        answer = self._get("/api/v1/images", listing.params(limit, cursor), MAX_RETRIES)
        items, metadata, next_cursor = split_image_body(answer.body)
        return ImagePage(items, metadata, next_cursor, answer.raw, answer.url, answer.fetched_at, answer.elapsed_s)

    def model_version(self, version_id: int) -> ModelVersion:
        """What the API says of a model version, remembered for as long as its edge cache would.

        Raises:
            ApiFailure: ``NOT_FOUND`` if there is no such version; other kinds if it could not be asked.
        """
        known = self._lookups.get(version_id)
        if known is None or time.monotonic() > known[0]:
            known = self._look_up(version_id)
            self._lookups[version_id] = known
        if isinstance(known[1], ApiFailure):
            raise known[1]
        return known[1]

    def _look_up(self, version_id: int) -> tuple[float, ModelVersion | ApiFailure]:
        try:
            answer = self._get(f"/api/v1/model-versions/{version_id}", {}, MAX_LOOKUP_RETRIES)
            version = parse_payload(ModelVersion, answer.body)
            if version.id != version_id:
                raise changed(f"asked for model version {version_id}, the API answered with {version.id}")
        except ApiFailure as failure:
            return time.monotonic() + FAILED_LOOKUP_TTL_S, failure
        return time.monotonic() + LOOKUP_TTL_S, version

    def model_version_by_hash(self, digest: str) -> ModelVersion:
        """What the API says of the model version that a file of this hash belongs to.

        One at a time: the API takes many at once only if all are SHA-256 in full, which metadata seldom holds.

        Args:
            digest: A hash of any kind the API knows, whole, as hexadecimal digits in either case.

        Raises:
            ValueError: ``digest`` is no hash.
            ApiFailure: ``NOT_FOUND`` if no published version has such a file; other kinds if it could not be asked.
        """
        if not _HASH.fullmatch(digest):
            raise ValueError(f"{digest!r} is not a file hash")
        return parse_payload(
            ModelVersion, self._get(f"/api/v1/model-versions/by-hash/{digest}", {}, MAX_LOOKUP_RETRIES).body
        )

    def model(self, model_id: int) -> Model:
        """What the API says of a model and its published versions.

        Raises:
            ApiFailure: ``NOT_FOUND`` if there is no such model; other kinds if it could not be asked.
        """
        answer = self._get(f"/api/v1/models/{model_id}", {}, MAX_LOOKUP_RETRIES)
        return parse_payload(Model, answer.body)

    def _get(self, path: str, params: dict[str, str], max_retries: int) -> _Answer:
        waited = 0.0
        for attempt in range(max_retries + 1):
            try:
                return self._get_once(self._base_url + path, params)
            except ApiFailure as failure:
                if not failure.kind.retryable or attempt == max_retries:
                    raise
                wait = _backoff(attempt, failure.retry_after)
                if waited + wait > self._retry_budget:
                    raise
                log.warning("%s; try %d of %d in %.1f s", failure, attempt + 2, max_retries + 1, wait)
                time.sleep(wait)
                waited += wait
                self.usage.waited_s += wait
                self.usage.retries += 1
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _get_once(self, url: str, params: dict[str, str]) -> _Answer:
        sent_cursor = "cursor" in params
        for _ in range(MAX_REDIRECTS + 1):
            self._keep_distance()
            self.usage.requests += 1
            started = time.monotonic()
            response = self._send(url, params)
            with response:
                if not response.is_redirect:
                    return self._read(response, started, sent_cursor=sent_cursor)
                # The address of a redirect carries its own query.
                url, params = self._redirect_target(response), {}
        raise ApiFailure(FailureKind.REDIRECTED, "the API redirects in circles; check CIVITAI_BASE_URL")

    def _keep_distance(self) -> None:
        pause = self._last_start + self.min_request_interval - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        self._last_start = time.monotonic()

    def _send(self, url: str, params: dict[str, str]) -> requests.Response:
        try:
            return self._session.get(
                url,
                params=params,
                timeout=(CONNECT_TIMEOUT_S, self._timeout),
                stream=True,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise self._transport_failure(error) from None

    def _redirect_target(self, response: requests.Response) -> str:
        try:
            target = urljoin(response.url, response.headers["Location"])
            there = _origin(target)
        except ValueError:
            raise ApiFailure(
                FailureKind.REDIRECTED,
                "the API redirects to something that is no address; check CIVITAI_BASE_URL",
                status=response.status_code,
            ) from None
        here = _origin(self._base_url)
        upgraded = here == ("http", there[1], 80) and there == ("https", here[1], 443)
        if there != here and not upgraded:
            host = urlsplit(target).netloc.rpartition("@")[2]
            raise ApiFailure(
                FailureKind.REDIRECTED,
                self._redactor.text(
                    f"the API redirects to another host, {there[0]}://{host}, "
                    "which was not asked; set CIVITAI_BASE_URL if it has moved there"
                ),
                status=response.status_code,
            )
        # Addresses stand in logs of servers and proxies.
        if self._redactor.is_in_address(target):
            raise ApiFailure(
                FailureKind.REDIRECTED,
                "the API redirects to an address with the key in it, which is not asked for; check CIVITAI_BASE_URL",
                status=response.status_code,
            )
        return target

    def _read(self, response: requests.Response, started: float, *, sent_cursor: bool) -> _Answer:
        ok = response.status_code == requests.codes.ok
        raw = self._read_body(response, started, self._max_body_bytes if ok else MAX_ERROR_BYTES, cut=not ok)
        now = datetime.now(UTC)
        if not ok:
            raise classify_status(
                response.status_code,
                CaseInsensitiveDict(response.headers),
                raw,
                sent_cursor=sent_cursor,
                now=now,
                redact=self._redactor.text,
            )
        try:
            body = jsontext.loads(raw)
        except jsontext.InvalidJsonError:
            head = "an HTML page" if raw[:200].lstrip().startswith(b"<") else "no valid JSON"
            raise ApiFailure(
                FailureKind.UNDECODABLE, f"the API answered 200 with {head}; run again later", status=200
            ) from None
        raw, body = self._redactor.document(raw, body)
        return _Answer(raw, body, self._redactor.text(response.url), now, time.monotonic() - started)

    def _read_body(self, response: requests.Response, started: float, most: int, *, cut: bool) -> bytes:
        deadline = started + MAX_READ_TIMEOUTS * self._timeout
        chunks: list[bytes] = []
        size = 0
        try:
            # read1 hands over what is there; anything that waits for a full chunk would let a server drip a
            # byte within every timeout and never come by the deadline.
            while chunk := response.raw.read1(CHUNK_BYTES, decode_content=True):
                chunks.append(chunk)
                size += len(chunk)
                if size > most:
                    break
                if time.monotonic() > deadline:
                    raise ApiFailure(
                        FailureKind.TRANSPORT,
                        f"the answer was still incomplete after {deadline - started:.0f} s",
                    )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._transport_failure(error) from None
        if size > most and not cut:
            raise ApiFailure(
                FailureKind.CONTRACT_CHANGED,
                f"the answer is larger than {most / 2**20:.0f} MB; ask for fewer items a page (page size)",
            )
        return b"".join(chunks)[:most] if cut else b"".join(chunks)

    def _transport_failure(self, error: Exception) -> ApiFailure:
        host = urlsplit(self._base_url).netloc
        if isinstance(error, requests.ConnectTimeout):
            what = f"{host} did not accept a connection within {CONNECT_TIMEOUT_S:.0f} s"
        elif isinstance(error, requests.Timeout | urllib3.exceptions.ReadTimeoutError):
            what = f"{host} said nothing for {self._timeout:.0f} s"
        elif isinstance(error, requests.exceptions.SSLError):
            what = f"no trustworthy encrypted connection to {host}"
        elif "IncompleteRead" in str(error):
            what = f"{host} broke off in the middle of its answer"
        elif "Connection refused" in str(error) or "resolve" in str(error) or "Name or service" in str(error):
            what = f"{host} cannot be reached; check the network and CIVITAI_BASE_URL"
        else:
            what = f"the connection to {host} was lost"
        return ApiFailure(FailureKind.TRANSPORT, self._redactor.text(f"{what} ({type(error).__name__})"))


def _origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port of an address: what must be the same for it to be the same server.

    Raises:
        ValueError: It is no address.
    """
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)


def _backoff(attempt: int, retry_after: float | None) -> float:
    """Seconds to wait before the next try: doubling, with a quarter of jitter, never less than asked."""
    wait: float = FIRST_BACKOFF_S * 2**attempt * random.uniform(1.0, 1.25)  # noqa: S311 - spreading, not secrecy
    return max(wait, retry_after or 0.0)
