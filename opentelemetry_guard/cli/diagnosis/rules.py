"""Whether all of the backend's rules could be enforced here: some need packages of an extra."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator

from pydantic import ValidationError

from ...decision.compiled_rules import CompiledRules
from ...delivery.transport import HTTPTransport
from ...models import DynamicRules
from ...settings.delivery import GuardConfig
from .finding import Finding, ok, problem, warning

_SECONDS = 5.0
"""How long the answer may take."""
_SHOWN = 10
"""Findings about one document."""
_EXTRA = re.compile(r"\(extra '([\w-]+)'\)")
"""How a message names the extra that is missing."""


def check_rules(config: GuardConfig) -> Iterator[Finding]:
    """Yield what of the project's rules an application that enforces them would leave out, with the remedy.

    Nothing is said where the backend has no rules, or gives none: the key's finding has told why.
    """
    transport = HTTPTransport(config)
    try:
        document = transport.fetch_rules(None, _SECONDS).document
    finally:
        transport.close()
    if document is None:
        return
    try:
        rules = DynamicRules.model_validate_json(document)
    except ValidationError as error:
        where = ", ".join(str(part) for part in error.errors()[0]["loc"])
        yield problem("rules", f"can't be read ({where}), the last known ones stay", "correct the rules at the backend")
        return
    if importlib.util.find_spec("guard_core") is not None:
        # With fastapi-guard they can be blocked; to compile them would fetch their networks.
        rules = rules.model_copy(update={"blocked_cloud_providers": []})
    problems = CompiledRules(rules).problems
    for text in problems[:_SHOWN]:
        missing = _EXTRA.search(text)
        remedy = (
            f"pip install 'opentelemetry-guard[{missing[1]}]'" if missing else "change it on the backend's rules page"
        )
        yield warning("rules", text, remedy)
    if not problems:
        yield ok("rules", f"version {rules.version} can be enforced as a whole")
