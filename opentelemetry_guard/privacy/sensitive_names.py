"""Which names announce a secret: headers, fields of a body, parameters of a query.

A name is judged as a whole (`FIELDS`), by how it ends (``db_pass``, ``stripeApiKey``), and where it holds "password" by
what is said of it (``password_confirm`` holds one, ``password_length`` does not). Some names hold other things as
often: ``code``, ``token``, ``auth``, ``pass``, ``ticket``. For these the value decides too (`Names.spares`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from enum import Enum
from urllib.parse import unquote

from ..settings.privacy import DEFAULT_HEADERS

FIELDS = frozenset(
    """
    authorization proxy-authorization cookie set-cookie cookies
    password passwd passphrase passcode pwd pass pw pin otp totp
    passwords password-confirmation password-hash
    auth x-auth secret secrets token tokens csrfmiddlewaretoken jwt bearer access-key-id aws-access-key-id
    credential credentials creds csrf xsrf request-verification-token id-token-hint
    code code-verifier 2fa mfa totp-code samlresponse samlrequest samlart wresult assertion ticket
    session session-id sid sessid phpsessid jsessionid connect.sid
    signature sig x-amz-signature x-amz-credential x-goog-signature hmac x-shopify-hmac-sha256 x-signature-ed25519
    secret-key-base secret-key secret-id client-key-data seed-phrase recovery-phrase mnemonic passkey
    ssn social-security-number card-number credit-card credit-card-number cc-number card-no cvv cvv2 cvc cvc2 iban
    """.split()  # noqa: SIM905  words read better than a column of strings
)
"""Names of fields and query parameters that are always masked, whatever the setting says."""

_ENDINGS = tuple(
    """
    password passwd passphrase passcode pwd pw secret token jwt credential cred creds cookie csrf xsrf
    authorization authentication assertion hmac signature sharedaccesssignature
    apikey accesskey secretkey authkey privatekey signingkey encryptionkey masterkey subscriptionkey accountkey
    consumerkey sessionkey clientkey appkey applicationkey sshkey serverkey sharedkey writekey webhookkey hmackey aeskey
    rsakey jwtkey tlskey sslkey pgpkey gpgkey cryptkey decryptionkey signaturekey licensekey deploykey functionkey
    functionskey cookiekey csrfkey servicerolekey passkey sessionid sessid
    authcode authorizationcode devicecode onetimecode otpcode mfacode factorcode 2facode tfacode verificationcode
    verifycode smscode confirmationcode activationcode securitycode resetcode recoverycode backupcode logincode
    accesscode oauthcode grantcode pincode magiccode scratchcode signincode unlockcode passwordcode usercode
    codeverifier oauthverifier
    """.split()  # noqa: SIM905  words read better than a column of strings
)
"""What the names of secrets end with, whatever is in front: ``db_password``, ``X-Vault-Token``, ``stripeApiKey``."""
_LAST_WORDS = frozenset({"pass", "auth", "otp", "otps", "totp"})
"""The same where it has to be a word of its own."""
_INNOCENT = tuple(
    """
    compass bypass trespass surpass overpass underpass encompass lowpass highpass bandpass allpass firstpass secondpass
    thirdpass lastpass onepass twopass multipass singlepass boardingpass skipass
    functionsignature methodsignature typesignature callsignature attacksignature virussignature threatsignature
    rulesignature matchedsignature emailsignature classsignature filesignature presetcode
    """.split()  # noqa: SIM905  words read better than a column of strings
)
"""Names that only end like one of a secret."""
_PASS_AT_END = re.compile(
    r"(?:db|database|user|usr|my|admin|root|smtp|ftp|mail|mysql|pg|redis|login|auth|http|basic)pass"
)
_PIN = re.compile(r"(?:user|login|card|account|sim|device|new|old|current|security|atm)pin\Z")
_AFTER = frozenset(
    """
    confirm confirmation confirmed repeat repeated again new old current previous prev verify retype hash hashed digest
    salt value string text plain raw b64 base64 base encrypted copy primary secondary backup data prod production
    staging live dev test v1 v2 v3 field
    """.split()  # noqa: SIM905  words read better than a column of strings
)
"""Words behind a secret's name that leave it one: ``password_again``, ``API_KEY_PROD``, ``token_hash``."""
_ABOUT = frozenset(
    """
    length len policy strength at on by date time timestamp expires expiry expired expiration expiring age required
    enabled disabled url uri link path file attempt attempts tries count type kind id name label rule rules min max
    score error errors message msg page form manager provider encoder hasher algorithm algo method changed updated
    created valid invalid ok status state version title placeholder pattern regex attribute input visible reset resets
    sent requests request less history change changes needed protected only failures failed check checks days format
    """.split()  # noqa: SIM905  words read better than a column of strings
)
"""Last words of names that tell something about a password, not the password."""
_ABOUT_ENDINGS = tuple(word for word in _ABOUT if len(word) > 4)
_PASSWORD = re.compile(r"passw(?:or)?d|passphrase|passcode|kennwort|passwort|contrase|motdepasse")

_PLAIN_NAME = re.compile(r"[\w.$-]{1,80}")

_HINT = re.compile(
    r"pass|pw|secret|token|jwt|cred|cookie|csrf|xsrf|auth|assert|hmac|sign|key|sess|code|verif|otp|pin|wort|contra"
)
"""What each name has in it that is known by its end."""

_ALIKE = str.maketrans("", "", "-_ ")
_LONGEST = 256
"""Characters of a name that are looked at, from its end."""
_PARTS = re.compile(r"[\[\].'\"]+")
_WORDS = re.compile(r"[^\W\d_a-z]+(?![a-z])|[^\W\d_a-z]?[a-z]+|[^\W\d_]+|[0-9]+(?:fa(?![a-z]))?")
_MEMORY = 4096
"""Names whose answer is remembered; a client can invent any number of them."""


class _Family(Enum):
    """What else than a secret a name of a secret may hold."""

    NOTHING = "a secret"
    NUMBER = "a number of tokens"
    COUNT = "a number of several secrets"
    VERDICT = "whether something passed"
    SCHEME = "a way to authenticate"
    CODE = "a code of an error or a country"
    TICKET = "a ticket's number, or what a test asserts"


_WHOLE = {
    "token": _Family.NUMBER,
    "tokens": _Family.COUNT,
    "pass": _Family.VERDICT,
    "auth": _Family.SCHEME,
    "code": _Family.CODE,
    "mfa": _Family.SCHEME,
    "2fa": _Family.SCHEME,
    "csrf": _Family.SCHEME,
    "xsrf": _Family.SCHEME,
    "ticket": _Family.TICKET,
    "assertion": _Family.TICKET,
}
_SCHEME_ENDINGS = ("auth", "authentication", "authorization")
_NO_SECRET = re.compile(r"true|false|null|none|nil|undefined|yes|no|on|off", re.IGNORECASE)
_SCHEMES = frozenset(
    """
    basic bearer digest negotiate ntlm kerberos token apikey api_key oauth oauth1 oauth2 oidc openid openid-connect saml
    saml2 ldap jwt cookie session form header mtls tls password anonymous public private local remote auto default
    hmac aws4 sigv4 webauthn passkey totp otp sms email app push two-factor 2fa mfa sso any all both
    required optional enabled disabled active inactive missing failed failure success successful succeeded ok error
    expired invalid valid denied granted allowed pending unknown
    """.split()  # noqa: SIM905  words read better than a column of strings
)
_HARMLESS = {
    _Family.NUMBER: re.compile(r"[0-9]{1,5}"),
    _Family.COUNT: re.compile(r"[0-9]{1,3}(?:[,._]?[0-9]{1,3}){0,3}[kKM]?"),
    _Family.VERDICT: re.compile(
        r"[0-9]{1,3}|pass(?:ed)?|fail(?:ed)?|ok|partial|skipped|pending|first|second", re.IGNORECASE
    ),
    _Family.CODE: re.compile(
        r".{0,5}|[0-9]{9,}|0x[0-9A-Fa-f]{1,8}|[a-z._:/-]+(?:[._-][0-9]{1,5})?|[A-Z][A-Z._:-]*[0-9]{0,6}"
        r"|[a-z]*(?:[A-Z][a-z]+)+"
    ),
    _Family.TICKET: re.compile(
        r".{0,5}|#?[0-9]+|[a-z._:/-]+(?:[._-][0-9]{1,7})?|[A-Z][A-Z._:-]*[0-9]{0,9}|[a-z]*(?:[A-Z][a-z]+)+"
    ),
}
"""Values that are no secret under names of each family."""


def canonical(name: str) -> str:
    """Return what spellings of one name have in common: case, ``-``, ``_`` and blanks, width and what is invisible.

    >>> canonical("X-Api-Key") == canonical("x_api_key") == canonical("xApiKey")
    True
    """
    return _visible(name).strip().lower().translate(_ALIKE)


def _visible(name: str) -> str:
    name = name[-_LONGEST:]
    if name[:2] in ("b'", 'b"') and len(name) > 2:
        name = name[2:-1]  # a key of bytes that was made text
    if not name.isascii():
        name = "".join(letter for letter in unicodedata.normalize("NFKC", name) if unicodedata.category(letter) != "Cf")
    return name


_DEFAULTS = frozenset(map(canonical, DEFAULT_HEADERS))
_FIELDS = frozenset(map(canonical, FIELDS))


class Names:
    """The names that count as sensitive in one configuration; `in` answers for one spelling of a name."""

    def __init__(self, headers: Iterable[str] = DEFAULT_HEADERS) -> None:
        """Take the `headers` that are sensitive besides the fields that always are."""
        self._headers = frozenset(map(canonical, headers))
        # Answers by spelling. Races only compute one twice; it is emptied when full.
        self._known: dict[str, _Family | None] = {}

    def __contains__(self, name: str) -> bool:
        return self._family(name) is not None

    def spares(self, name: str, value: str) -> bool:
        """Whether a sensitive name holds no secret this time: ``token=4096``, ``auth: basic``, ``code: 404``."""
        family = self._family(name)
        return family is not None and len(value) <= _LONGEST and _is_harmless(family, value.strip())

    def _family(self, name: str) -> _Family | None:
        try:
            return self._known[name]
        except KeyError:
            pass
        family = self._decide(name[-_LONGEST:])
        if len(name) <= 100:
            if len(self._known) >= _MEMORY:
                self._known.clear()
            self._known[name] = family
        return family

    def _decide(self, name: str) -> _Family | None:
        if family := self._listed(canonical(name)):
            return family
        if name.isascii() and name.isalnum():  # one word, as most names are: nothing to take apart
            return None if name.isdigit() else self._family_of(name)
        if "%" in name:
            name = unquote(unquote(name))
        parts = [part for part in _PARTS.split(name) if part and not part.isdigit()]
        # Of user.password and password.0 the last name that is no index counts; of password[new][], each.
        inner = parts if "[" in name else parts[-1:]
        return self._listed(canonical(name)) or next(filter(None, map(self._family_of, inner)), None)

    def _listed(self, found: str) -> _Family | None:
        if found in self._headers:
            return _Family.NOTHING
        return _WHOLE.get(found, _Family.NOTHING) if found in _FIELDS else None

    def _family_of(self, name: str) -> _Family | None:
        found = canonical(name)
        if family := self._listed(found):
            return family
        if found in _DEFAULTS:
            return None  # the user's list has left it out
        # A header in the environment of a WSGI or CGI application.
        if name.startswith("HTTP_") and (family := self._listed(found.removeprefix("http"))):
            return family
        return _family_by_end(_visible(name), found)


def _family_by_end(name: str, found: str) -> _Family | None:
    """Return what a name is by how it ends."""
    if not _HINT.search(found):
        return None  # most names: a client can invent any number of them
    words = [word.lower() for word in _WORDS.findall(name)]
    if (
        _PASSWORD.search(found)
        and _PLAIN_NAME.fullmatch(name)
        and not (words and words[-1] in _ABOUT)
        and not found.endswith(_ABOUT_ENDINGS)
    ):
        return _Family.NOTHING
    while len(words) > 1 and (words[-1] in _AFTER or words[-1].isdigit()):
        words.pop()
    if not words:
        return None
    end = "".join(words)
    if end.endswith(_INNOCENT):
        return None
    if words[-1] == "pass" or _PASS_AT_END.fullmatch(end):
        return _Family.VERDICT
    if end.endswith(_SCHEME_ENDINGS) and (words[-1] in _LAST_WORDS or not end.endswith("auth")):
        return _Family.SCHEME
    if end.endswith(_ENDINGS) or words[-1] in _LAST_WORDS or _PIN.search(end):
        return _Family.TICKET if end.endswith("assertion") else _Family.NOTHING
    return _Family.COUNT if end[-1] == "s" and end[:-1].endswith(_ENDINGS) else None


def _is_harmless(family: _Family, value: str) -> bool:
    if not value or _NO_SECRET.fullmatch(value):
        return True
    if family is _Family.SCHEME:
        return all(word.strip(".,;").lower() in _SCHEMES for word in value.split())
    pattern = _HARMLESS.get(family)
    # Of a sentence each word has to be harmless.
    return pattern is not None and all(pattern.fullmatch(word.strip(".,;")) for word in value.split())
