"""Known vulnerabilities of installed packages, as far as an index tells them: ``python tests/support/audit.py PATH``.

Ends with 1 where there is one. What could not be asked is said, and is no failure: an index without that knowledge
answers for no package.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PIP_AUDIT = Path(sys.executable).with_name("pip-audit")


def judged(report: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return a summary of pip-audit's report, and a line for each vulnerability."""
    packages = report["dependencies"]
    asked = [package for package in packages if "vulns" in package]
    found = [
        f"{package['name']} {package['version']}: {problem['id']}, mended in {', '.join(problem['fix_versions'])}"
        for package in asked
        for problem in package["vulns"]
    ]
    return f"audited {len(asked)} of {len(packages)} packages; of the others the index knows nothing", found


def main(path: str) -> int:
    """Audit the packages in a directory; print what is found."""
    command = [PIP_AUDIT, "--path", path, "--format", "json", "--progress-spinner", "off", "--timeout", "15"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=180)
        report = json.loads(ran.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        print("not audited: no index answered for vulnerabilities")
        return 0
    summary, found = judged(report)
    print(summary, *found, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
