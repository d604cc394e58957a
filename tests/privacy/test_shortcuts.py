"""What spares most texts most rules loses nothing: the rules find the same where each of them looks at everything."""

from __future__ import annotations

from unittest.mock import patch

from hypothesis import example, given
from hypothesis import strategies as st
from support.hostile_texts import PARTS
from support.strategies import any_events

from opentelemetry_guard import SecurityEvent
from opentelemetry_guard.events.codec import to_row
from opentelemetry_guard.privacy import Privacy, PrivacySettings, cards, documents, named_values, statements
from opentelemetry_guard.privacy.announced import inputs
from opentelemetry_guard.privacy.scanning import mask_spans
from opentelemetry_guard.privacy.secrets_in_text import mask
from opentelemetry_guard.privacy.sensitive_names import Names
from opentelemetry_guard.privacy.url_passwords import url_passwords
from opentelemetry_guard.settings.tokens import mask_tokens

NAMES = Names()
SIGNS = " ".join((*(rule.sign for rule in statements._RULES), "args= param duplicate entry '"))
SECRETS = (
    "hunter2-Zx81qT",
    "4111 1111 1111 1111",
    "a",
    "PASSWORD",
    "IDENTIFIED BY",
    "identified as ",
    "--pw ",
    "curl -u ",
)

written = st.lists(st.one_of(st.sampled_from((*PARTS, *SECRETS)), st.text(max_size=6)), max_size=8).map("".join)


def thoroughly(text: str) -> str:
    """Mask a text with every rule, whatever the text has in it."""
    text = mask_tokens(text)
    text = mask_spans(text, url_passwords(text))
    text = mask_spans(text, cards._cards(text))
    for find in (documents.elements, documents.tags, documents.form_fields, inputs):
        text = mask_spans(text, find(text, NAMES))
    text = statements.mask_statements(text, SIGNS, NAMES)
    text = mask_spans(text, documents.yaml_blocks(text, NAMES))
    with patch.object(named_values, "_may_hold_pair", lambda _: True):
        return mask_spans(text, named_values.named_values(text, NAMES))


@given(written)
@example("identified by hunter2-Zx81qT")
@example("--PASSWORD hunter2-Zx81qT")
@example("password\uff1dhunter2-Zx81qT")
@example("4111 1111 1111 1111")
@example("Duplicate entry 'hunter2-Zx81qT' for key 'password'")
@example("curl -u bob:hunter2-Zx81qT")
@example("password\n  hunter2-Zx81qT")
def test_a_text_is_masked_as_if_every_rule_had_looked_at_it(text: str) -> None:
    assert mask(text, NAMES) == thoroughly(text)


@given(st.lists(written, min_size=1, max_size=4), st.sampled_from([None, "key"]))
def test_what_is_remembered_changes_no_result(texts: list[str], key: str | None) -> None:
    settings = PrivacySettings(address_key=key)
    used = Privacy(settings)
    for text in (*texts, *texts):
        fresh = Privacy(settings)
        for used_one, fresh_one in ((used.text, fresh.text), (used.path, fresh.path), (used.message, fresh.message)):
            cleaned = used_one(text)
            assert cleaned == fresh_one(text)
            assert used_one(cleaned) == cleaned


@given(st.lists(any_events, min_size=1, max_size=3))
def test_an_event_is_cleaned_the_same_after_others_like_it(events: list[SecurityEvent]) -> None:
    used = Privacy()
    rows = [to_row(event)[0] for event in events]
    for row in (*rows, *rows):
        assert used.event(row) == Privacy().event(row)
