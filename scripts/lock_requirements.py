"""Pin the requirements anew: `requirements*.in` to `requirements*.txt`, by uv.

Owns: the two pinned files, for Python 3.11 on Linux. The development file is resolved with the first one as a
constraint, so both name one version of each package. Pins that still fit are kept; `--upgrade` takes the newest of all.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = ROOT / ".venv" / "bin" / "uv"
# No index address and no command line: the file must not depend on who compiled it, nor where.
OPTIONS = ("--quiet", "--python-version", "3.11", "--no-emit-index-url", "--no-header")


def main() -> int:
    """Compile both files in order.

    Returns:
        int: 0 done; else the exit code of uv, and that file is as it was.
    """
    for name in ("requirements", "requirements-dev"):
        target = ROOT / f"{name}.txt"
        command = [UV, "pip", "compile", *OPTIONS, *sys.argv[1:], f"{name}.in", "--output-file", target.name]
        result = subprocess.run(command, cwd=ROOT, check=False)
        if result.returncode != 0:
            return result.returncode
        header = f"# Compiled from {name}.in by `make lock`; change that file, not this one.\n"
        target.write_text(header + target.read_text(encoding="utf-8"), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
