"""Where the benchmarks keep their things: one git-ignored cache folder, nothing elsewhere."""

from __future__ import annotations

from pathlib import Path

BENCHMARKS_DIR = Path(__file__).resolve().parent
PROJECT_DIR = BENCHMARKS_DIR.parent
CACHE_DIR = BENCHMARKS_DIR / ".cache"
TREES_DIR = CACHE_DIR / "trees"
PEERS_DIR = CACHE_DIR / "peers"
SCRATCH_DIR = CACHE_DIR / "scratch"
RESULTS_JSON = BENCHMARKS_DIR / "results.json"
RESULTS_MD = BENCHMARKS_DIR / "RESULTS.md"
POSTGRES_DIR = CACHE_DIR / "postgres"
POSTGRES_JSON = BENCHMARKS_DIR / "postgres.json"
POSTGRES_MD = BENCHMARKS_DIR / "POSTGRES.md"
