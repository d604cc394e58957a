"""Find secrets in plain text by their shape or by the name in front of them, and mask them.

Every rule is linear in the text's length, since a client may send the text:
names and tokens are tried at the beginning of a word only, what was read for
one rule's match is not read for its next one, and what ends a match far away
is looked up in a `Lookahead`. Masked text holds nothing that a rule matches
again, and no sign by which a text is known to need a rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..settings.tokens import mask_tokens
from .announced import inputs
from .cards import cards
from .documents import elements, form_fields, tags, yaml_blocks
from .named_values import named_values
from .scanning import Span, mask_spans
from .sensitive_names import Names
from .statements import mask_statements
from .url_passwords import url_passwords

_SHORTEST = 5
"""Characters of the shortest secret together with its name, ``pw=1``."""
_RULES: tuple[tuple[str, Callable[[str, Names], Iterable[Span]]], ...] = (
    ("<", elements),
    ("<", tags),
    ("form-data", form_fields),
    ("input_value=", inputs),
)
"""What a text has in it in small letters, and what finds the secrets of such a text."""


def mask(text: str, names: Names) -> str:
    """Return `text` without the secrets that are recognised in it; the same object where there are none.

    Recognised are tokens of well-known forms, credentials after ``Bearer``
    and ``Basic``, passwords in URLs, payment card numbers, and whatever
    follows a sensitive name as its value (``name=value``, ``name: value``,
    quoted or percent-encoded, XML elements, parts of a multipart form).
    """
    if len(text) < _SHORTEST:
        return text
    lower = text.lower()
    announces = _announces(lower)
    text = mask_tokens(text)
    if announces and ("//" in text or "%" in text):
        text = mask_spans(text, url_passwords(text))
    text = mask_spans(text, cards(text))
    if not announces:
        return text
    for sign, find in _RULES:
        if sign in lower:
            text = mask_spans(text, find(text, names))
    text = mask_statements(text, lower, names)
    if "\n" in lower:
        text = mask_spans(text, yaml_blocks(text, names))
    return mask_spans(text, named_values(text, names))


def _announces(lower: str) -> bool:
    """Whether a text, in small letters, has a sign in it that each announcement of a secret has.

    Most texts have none, and are spared all rules but those that know a secret by its own form.
    """
    return (
        "=" in lower
        or ":" in lower
        or "%" in lower
        or "<" in lower
        or "'" in lower
        or '"' in lower
        or "--" in lower
        or "dentified" in lower
        or "\uff1d" in lower
        or "\uff1a" in lower
    )
