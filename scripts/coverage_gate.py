"""Hold the engine to its coverage of branches, after a run of pytest with `--cov`.

`coverage report` counts lines and branches in one figure, in which many covered lines can hide uncovered branches. This
gate looks at the branches alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BRANCHES_MIN_PERCENT = 95.0


def main() -> int:
    """Compare the share of covered branches with the limit.

    Returns:
        int: 0 reached, 1 not reached or nothing measured.
    """
    command = [sys.executable, "-m", "coverage", "json", "--quiet", "--fail-under=0", "-o", "-"]
    report = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    totals = json.loads(report)["totals"]
    covered, count = totals["covered_branches"], totals["num_branches"]
    percent = 100.0 * covered / count if count else 0.0
    print(f"coverage: {covered} of {count} branches of the engine, {percent:.1f} %, at least {BRANCHES_MIN_PERCENT} %")
    return 0 if percent >= BRANCHES_MIN_PERCENT else 1


if __name__ == "__main__":
    sys.exit(main())
