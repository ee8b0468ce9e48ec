"""`tests/bench/run` behind its installations: runs the scenarios that are asked for and prints their tables."""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from . import cold, find, retrieve, store
from .figures import Figures

SCENARIOS = {"store": store, "retrieve": retrieve, "find": find, "cold": cold}
ROOT = Path(__file__).resolve().parents[3]


def main():
    parser = argparse.ArgumentParser(prog="tests/bench/run", description=__doc__)
    parser.add_argument("scenario", nargs="*", help=f"of {', '.join(SCENARIOS)}; all without any")
    parser.add_argument("--quick", action="store_true", help="few images, small catalogues, one round: to see that it works")
    parser.add_argument("--rounds", type=int, help="rounds, interleaved (3)")
    parser.add_argument("--only", action="append", default=[], help="only servers whose name holds this; may be given again")
    parser.add_argument("--million", type=int, default=1_000_000, help="studies of the large catalogue of find (1,000,000)")
    parser.add_argument("--catalogues", type=Path, help="keep generated catalogues in this folder, and use those that are there")
    parser.add_argument("--again", type=Path, help="measure nothing: the tables of figures that were kept")
    parser.add_argument("--work", type=Path, required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = set(options.scenario) - set(SCENARIOS)
    if unknown:
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    options.rounds = options.rounds or (1 if options.quick else 3)

    if options.again:
        figures = Figures(None)
        figures.rows = [json.loads(line) for line in options.again.read_text().splitlines()]
        for name in options.scenario or SCENARIOS:
            print(SCENARIOS[name].table(figures))
        return

    folder = ROOT / "target/bench"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / time.strftime("%Y%m%d-%H%M%S.jsonl")
    with Figures(path) as figures:
        print(machine(options), flush=True)
        for name in options.scenario or SCENARIOS:
            SCENARIOS[name].run(options, figures)
            print(SCENARIOS[name].table(figures), flush=True)
    print(f"every figure: {path.relative_to(ROOT)}", file=sys.stderr)


def machine(options):
    """What was measured, where and when."""
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    disk = subprocess.run(["findmnt", "-n", "-o", "FSTYPE", "-T", str(options.work)], capture_output=True, text=True).stdout.strip()
    commit = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    load = os.getloadavg()[0]
    lines = [f"{time.strftime('%Y-%m-%d %H:%M')}, commit {commit or 'unknown'}, {platform.system()} {platform.release()}, "
             f"{os.cpu_count()} x {model}, {memory:.0f} GB, {disk or 'unknown file system'}"]
    if options.quick:
        lines.append("**--quick: these figures say that it works, nothing else.**")
    if load > 0.5:
        lines.append(f"**The machine was not idle when this began (load {load:.1f}): do not believe these figures.**")
    return "\n\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
