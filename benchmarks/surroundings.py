"""What a figure depends on beside the tools: the commit of the engine, and the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

from benchmarks.layout import PROJECT_DIR


def engine_commit() -> str:
    """Return the short hash of the engine's last commit, with `+changes` behind it when it was edited since."""
    log = ["git", "log", "-1", "--format=%h", "--", "include"]
    commit = subprocess.run(log, cwd=PROJECT_DIR, capture_output=True, text=True, check=True).stdout.strip()
    status = ["git", "status", "--porcelain", "--", "include"]
    changed = subprocess.run(status, cwd=PROJECT_DIR, capture_output=True, text=True, check=True).stdout.strip()
    return f"{commit}+changes" if changed else commit


def machine() -> dict[str, str]:
    """Return what the figures depend on: processor, cores, memory, kernel, file system, Python. No names."""
    cpu = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    memory_kib = int(next(line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal")))
    stat = ["stat", "-f", "-c", "%T", str(PROJECT_DIR)]
    return {
        "processor": f"{cpu}, {os.cpu_count()} cores",
        "memory": f"{memory_kib / 2**20:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "file system": subprocess.run(stat, capture_output=True, text=True, check=True).stdout.strip(),
        "Python": platform.python_version(),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
