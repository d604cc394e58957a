"""A request that is refused, as a value that travels up to the answer."""

from __future__ import annotations

from collections.abc import Mapping


class Refusal(Exception):
    """A request is answered with `status` and `detail`.

    `detail` says what is wrong and how to cure it, and never repeats a
    key, a secret or a value of a row.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        """Refuse with the HTTP `status`, the text `detail` and further `headers`."""
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers
