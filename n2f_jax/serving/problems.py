"""What a client is told when there is no head: problem details (RFC 9457), one line of text each."""

from __future__ import annotations

import http
from collections.abc import Mapping
from typing import Any

from n2f_jax.runtime.display import printable

MEDIA_TYPE = "application/problem+json"
_LONGEST = 500  # letters of a detail


class Problem(Exception):
    """A request that gets no head.

    Args:
        status: of HTTP.
        detail: why, for people; line ends and what a terminal obeys are escaped.
        retry_after: seconds after which it may be sent again; None where that would not help.
    """

    def __init__(self, status: int, detail: str, retry_after: int | None = None):
        self.status = status
        self.detail = printable(detail)[:_LONGEST]
        self.retry_after = retry_after
        super().__init__(self.detail)

    @property
    def headers(self) -> Mapping[str, str]:
        """Of the answer."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}

    def content(self) -> dict[str, Any]:
        """The members that RFC 9457 names; ``type`` is ``about:blank``, its default."""
        return {
            "title": http.HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
