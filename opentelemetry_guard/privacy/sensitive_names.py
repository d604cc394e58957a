"""Which names announce a secret: headers, fields of a body, parameters of a query."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from urllib.parse import unquote

from ..settings.privacy import DEFAULT_HEADERS

FIELDS = frozenset(
    """
    authorization proxy-authorization cookie set-cookie cookies
    password passwd passphrase passcode pwd pass pin otp totp
    passwords password-confirmation password-hash
    auth secret secrets token csrfmiddlewaretoken jwt access-key-id aws-access-key-id credential credentials
    session session-id sid phpsessid jsessionid connect.sid
    signature sig x-amz-signature x-amz-credential x-goog-signature
    ssn social-security-number card-number credit-card credit-card-number cc-number card-no cvv cvv2 cvc cvc2 iban
    """.split()  # noqa: SIM905  words read better than a column of strings
)
"""Names of fields and query parameters that are always masked, whatever the setting says."""

_LAST_WORDS = tuple(
    """
    password passwd passphrase secret token apikey accesskey secretkey authkey privatekey signingkey encryptionkey
    masterkey subscriptionkey accountkey sessionid
    """.split()  # noqa: SIM905  words read better than a column of strings
)
"""What the names of secrets end with, whatever is in front: ``db_password``, ``X-Vault-Token``, ``stripeApiKey``."""

_ALIKE = str.maketrans("", "", "-_ ")
_LONGEST = 256
"""Characters of a name that are looked at, from its end."""
_PARTS = re.compile(r"[\[\].'\"]+")
_MEMORY = 1024
"""Names whose answer is remembered; a client can invent any number of them."""


def canonical(name: str) -> str:
    """Return what spellings of one name have in common: case, ``-``, ``_`` and blanks, width and what is invisible.

    >>> canonical("X-Api-Key") == canonical("x_api_key") == canonical("xApiKey")
    True
    """
    name = name[-_LONGEST:]
    if name[:2] in ("b'", 'b"') and len(name) > 2:
        name = name[2:-1]  # a key of bytes that was made text
    if not name.isascii():
        name = "".join(letter for letter in unicodedata.normalize("NFKC", name) if unicodedata.category(letter) != "Cf")
    return name.strip().lower().translate(_ALIKE)


_DEFAULTS = frozenset(map(canonical, DEFAULT_HEADERS))


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
            known = self._decide(name[-_LONGEST:])
            if len(name) <= 100:
                self._known[name] = known
        return known

    def _decide(self, name: str) -> bool:
        if self._is_sensitive(name):
            return True
        if "%" in name:
            name = unquote(unquote(name))
        parts = [part for part in _PARTS.split(name) if part and not part.isdigit()]
        # Of user.password and password.0 the last name that is no index counts; of password[new][], each.
        inner = parts if "[" in name else parts[-1:]
        return any(self._is_sensitive(part) for part in (name, *inner))

    def _is_sensitive(self, name: str) -> bool:
        found = canonical(name)
        if found in self._canonical:
            return True
        if found in _DEFAULTS:
            return False  # the user's list has left it out
        if found.rstrip("0123456789").endswith(_LAST_WORDS):
            return True
        # A header in the environment of a WSGI or CGI application.
        return name.startswith("HTTP_") and found.removeprefix("http") in self._canonical
