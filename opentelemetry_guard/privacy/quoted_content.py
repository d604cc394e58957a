"""What guard-core's events quote of a request, and how to leave it out.

Each rule names the place in guard-core that writes the quotation. Which
pattern matched and in which parameter, header or field stays; what the
client wrote goes.
"""

from __future__ import annotations

import re

from .scanning import Lookahead

CONTENT_KEYS = frozenset(
    {
        "content_preview",  # handlers/suspatterns_handler.py: pattern_detected
        "text_preview",
        "matched_content",
        "matched_text",
        "matched_value",
        "match_text",
        "pattern_excerpt",
        "content_excerpt",
        "payload_preview",
        "body_preview",
        "callback_error",  # detection_engine/monitor_anomalies.py: the text of an exception
    }
)
"""Keys of metadata whose value quotes a request."""

CONTENT_KEYS_OF: dict[str, frozenset[str]] = {
    "decoding_error": frozenset({"error"}),  # detection_engine/preprocessor.py: what could not be decoded
}
"""Keys that quote a request in events of one type alone."""

MATCH_KEYS = frozenset({"match", "matched"})
"""Keys of a threat (`_utils/detection_scan.py`), a mapping that tells its `pattern` too, with the text that matched."""

LEFT_OUT = "[content left out]"

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")
_FINDING = r"(?:Value matched|Semantic attack|Pattern exceeded|Threat detected|Embedded JSON|JSON key|Request body)"
# _utils/body_*_scan.py: the name of a parameter, a header or a field, which the client chose.
_NAMED = re.compile(
    r"(?:Query param|Header|Form field|Multipart field|Request body field|JSON key)(?P<is_name> name)? '"
)
_NAME_END = re.compile(rf"'(?=: {_FINDING}|:?\Z)")
# handlers/suspatterns_handler.py and the `context` of its events: where, and the name that the client chose.
_CONTEXT = re.compile(
    r"(?P<where>(?:\A|(?<= in ))(?:query_param|header|request_body|form_field|multipart_field|json_key|body_field))"
    r":(?P<name>.+)",
    re.DOTALL,
)
# core/checks/implementations/referrer.py
_REFERRER = re.compile(
    r"(?P<where>(?:Invalid referrer: |Referrer '))(?P<origin>(?:https?://)?[A-Za-z0-9.:\[\]-]{0,253})"
    r"(?P<rest>.*?)(?P<after>' not in allowed domains|\Z)",
    re.DOTALL,
)
# detection_engine/monitor_anomalies.py
_CALLBACK = re.compile(r"(?P<where>Anomaly callback failed: ).+", re.DOTALL)


def without_content(text: str) -> str:
    """Return a reason, a `trigger_info` or a `context` without what it quotes of the request."""
    if "'" in text:
        text = _without_names(text)
    if ":" in text:
        text = _CONTEXT.sub(_context, text)
        text = _CALLBACK.sub(lambda found: found["where"] + LEFT_OUT, text)
    if "eferrer" in text:
        text = _REFERRER.sub(_referrer, text)
    return text


def _without_names(text: str) -> str:
    body = text.rstrip()
    name_end = Lookahead(_NAME_END, body)
    parts: list[str] = []
    done = 0
    while (found := _NAMED.search(body, done)) and (end := name_end.after(found.end())) < len(body):
        # Where the name itself matched, it is the attack.
        plain = not found["is_name"] and _PLAIN_NAME.fullmatch(body, found.end(), end)
        parts += (body[done : found.end()], body[found.end() : end] if plain else LEFT_OUT)
        done = end
    return "".join((*parts, text[done:])) if parts else text


def _context(found: re.Match[str]) -> str:
    return found[0] if _PLAIN_NAME.fullmatch(found["name"]) else f"{found['where']}:{LEFT_OUT}"


def _referrer(found: re.Match[str]) -> str:
    return f"{found['where']}{found['origin']}{'/' + LEFT_OUT if found['rest'].strip('/') else ''}{found['after']}"
