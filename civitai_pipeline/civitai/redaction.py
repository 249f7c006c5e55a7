"""Taking the API key out of whatever a server says: servers echo addresses, headers and what they were asked.

What is done with a key belongs in ``client``; this module only knows how one may be spelled.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, unquote, unquote_plus

from civitai_pipeline import jsontext

REDACTED = "[redacted]"
_JSON_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')


class Redactor:
    """Takes one key out of texts and documents; without a key, leaves everything as it is.

    Args:
        key: The key, or None.
    """

    def __init__(self, key: str | None) -> None:
        self._key = key
        # Servers echo addresses, in which a key with odd characters is spelled otherwise.
        self._spellings = tuple(dict.fromkeys((key, quote(key, "")))) if key else ()

    def text(self, text: str) -> str:
        """A text without the key."""
        for spelling in self._spellings:
            text = text.replace(spelling, REDACTED)
        return text

    def document(self, raw: bytes, body: Any) -> tuple[bytes, Any]:  # noqa: ANN401 - any JSON value
        """A JSON text and its value without the key, both as they were if they do not hold it."""
        if not self._spellings:
            return raw, body
        # Written anew, the text holds the key in one spelling, however the server escaped it.
        plain = jsontext.dumps(body)
        if not any(jsontext.dumps(spelling)[1:-1] in plain for spelling in self._spellings):
            return raw, body
        # String by string, because a key may look like a number or like the end of an escape.
        plain = _JSON_STRING.sub(lambda found: self._json_string(found.group()), plain)
        return plain, jsontext.loads(plain)

    def _json_string(self, written: bytes) -> bytes:
        text = jsontext.loads(written)
        redacted = self.text(text)
        return written if redacted == text else jsontext.dumps(redacted)

    def is_in_address(self, url: str) -> bool:
        """Whether an address holds the key, of which only some characters may be escaped there."""
        return self._key is not None and any(self._key in read(url) for read in (unquote, unquote_plus))
