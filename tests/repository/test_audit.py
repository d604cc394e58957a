"""What `make audit` makes of pip-audit's report."""

from __future__ import annotations

from support.audit import judged


def test_a_vulnerability_is_found_and_what_could_not_be_asked_is_counted() -> None:
    problem = {"id": "PYSEC-2026-1", "fix_versions": ["2.1"], "aliases": [], "description": "..."}
    report = {
        "dependencies": [
            {"name": "sound", "version": "1.0", "vulns": []},
            {"name": "old", "version": "2.0", "vulns": [problem]},
            {"name": "unknown", "skip_reason": "Dependency not found on PyPI and could not be audited: unknown (3.0)"},
        ],
        "fixes": [],
    }
    summary, found = judged(report)
    assert summary == "audited 2 of 3 packages; of the others the index knows nothing"
    assert found == ["old 2.0: PYSEC-2026-1, mended in 2.1"]
