"""Which names announce a secret: headers, fields of a body, parameters of a query."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import unquote

DEFAULT_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"})
"""Headers whose values are masked unless the setting `sensitive_headers` names others."""

FIELDS = frozenset(
    """
    password passwd passphrase passcode pwd pass pin otp totp
    new-password old-password current-password confirm-password password-confirmation password1 password2 user-password
    secret client-secret secret-key shared-secret signing-secret app-secret secret-access-key aws-secret-access-key
    token access-token refresh-token id-token auth-token bearer-token session-token security-token csrf-token xsrf-token
    csrfmiddlewaretoken x-auth-token x-access-token x-csrf-token x-xsrf-token x-amz-security-token device-token
    reset-token jwt api-key api-token api-secret access-key access-key-id aws-access-key-id subscription-key account-key
    auth-key private-key encryption-key master-key credential credentials
    session session-id sid phpsessid jsessionid connect.sid
    signature sig x-amz-signature x-amz-credential x-goog-signature
    ssn social-security-number card-number credit-card credit-card-number cc-number card-no cvv cvv2 cvc cvc2 iban
    """.split()  # noqa: SIM905  words read better than a column of strings
)
"""Names of fields and query parameters that are always masked, whatever the setting says."""

_ALIKE = str.maketrans("", "", "-_ ")
_MEMORY = 1024
"""Names whose answer is remembered; a client can invent any number of them."""


def canonical(name: str) -> str:
    """Return what spellings of one name have in common: case, ``-``, ``_`` and blanks don't count.

    >>> canonical("X-Api-Key") == canonical("x_api_key") == canonical("xApiKey")
    True
    """
    if name[:2] in ("b'", 'b"') and len(name) > 2:
        name = name[2:-1]  # a key of bytes that was made text
    return name.strip().lower().translate(_ALIKE)


class Names:
    """The names that count as sensitive in one configuration; `in` answers for one spelling of a name."""

    def __init__(self, headers: Iterable[str] = DEFAULT_HEADERS) -> None:
        """Take the `headers` that are sensitive besides the fields that always are."""
        self._canonical = frozenset(canonical(name) for name in (*headers, *FIELDS))
        # Answers by spelling. Races only compute one twice; it is emptied when full.
        self._known: dict[str, bool] = {}

    def __contains__(self, name: str) -> bool:
        known = self._known.get(name)
        if known is None:
            if len(self._known) >= _MEMORY:
                self._known.clear()
            known = self._decide(name)
            if len(name) <= 100:
                self._known[name] = known
        return known

    def _decide(self, name: str) -> bool:
        if canonical(name) in self._canonical:
            return True
        if "%" in name:
            name = unquote(unquote(name))
        # The innermost name of user[password] and user.password.
        inner = name.rstrip("[]'\"").replace("[", ".").rpartition(".")[2]
        return canonical(inner) in self._canonical or canonical(name) in self._canonical
