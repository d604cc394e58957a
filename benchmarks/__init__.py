"""What things cost, as ratios within one run. Nothing here is asserted by a test.

Servers, traffic and texts are those of the tests, which lie in a directory that is no package.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
