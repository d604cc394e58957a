"""Pictures of every page at both widths and in both themes: ``python tests/dashboard/screenshots.py [DIRECTORY]``.

The backend is a real one with made-up data; the pictures go to ``docs/images`` unless a directory is named.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.backend import running_backend  # noqa: E402
from support.browser import WIDTHS, chromium, executable  # noqa: E402
from support.seed import PROJECT, seed  # noqa: E402

from opentelemetry_guard.backend.storage.search import EventFilter, EventSearch  # noqa: E402
from opentelemetry_guard.backend.storage.store import Store  # noqa: E402

TRACE_URL = "http://127.0.0.1:16686/trace/{trace_id}"


def main(directory: Path) -> int:
    """Write the pictures into `directory`; return 1 when there is no browser."""
    browser_path = executable()
    if browser_path is None:
        print("no Chromium: install it (apt install chromium) or name it in CHROMIUM_PATH", file=sys.stderr)
        return 1
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        db = Path(temporary, "backend.db")
        with closing(Store(db)) as store:
            seed(store)
            traced = EventFilter(PROJECT, event_type="penetration_attempt")
            found = EventSearch(store.database).page(traced, None, 50).found
            one = next(event.id for event in found if "trace_id" in event.row)
        pages = {
            "overview": "/",
            "events": "/events",
            "event": f"/events/{one}",
            "incidents": "/incidents",
            "incident": "/incidents/1",
            "agents": "/agents",
            "rules": "/rules",
        }
        with running_backend(project=PROJECT, db=db, trace_url=TRACE_URL) as backend, chromium(browser_path) as browser:
            for width in WIDTHS:
                for theme in ("light", "dark"):
                    context = browser.new_context(
                        viewport={"width": width, "height": 800 if width > 500 else 740}, color_scheme=theme
                    )
                    page = context.new_page()
                    for name, path in pages.items():
                        page.goto(backend.url + path)
                        target = directory / f"{name}-{width}-{theme}.png"
                        page.screenshot(path=target, animations="disabled")
                        print(target)
                    context.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "docs" / "images"))
