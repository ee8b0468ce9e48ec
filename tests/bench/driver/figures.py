"""Every figure that was measured, one JSON object each, kept in a file as it comes; and Markdown of them."""

import json
import os
import statistics
import subprocess
import sys

BENCH = os.environ.get("FILMROOM_BENCH", "")


class Figures:
    def __init__(self, path):
        self.path = path
        self.rows = []

    def __enter__(self):
        self.file = open(self.path, "w")
        return self

    def __exit__(self, *exc):
        self.file.close()

    def add(self, **row):
        self.rows.append(row)
        self.file.write(json.dumps(row) + "\n")
        self.file.flush()
        shown = {key: round(value, 2) if isinstance(value, float) else value for key, value in row.items()}
        print("  ".join(f"{key}={value}" for key, value in shown.items()), file=sys.stderr, flush=True)

    def of(self, **wanted):
        return [row for row in self.rows if all(row.get(key) == value for key, value in wanted.items())]


def bench(*arguments, timeout=3600):
    """What one subcommand of filmroom-bench prints: a list of JSON objects."""
    done = subprocess.run([BENCH, *map(str, arguments)], capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise RuntimeError(f"filmroom-bench {' '.join(map(str, arguments))}: {done.stderr.strip()}")
    if done.stderr.strip():
        print(done.stderr.strip(), file=sys.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


def median(rows, key):
    values = [row[key] for row in rows if row.get(key) is not None]
    return statistics.median(values) if values else None


def number(value, digits=0):
    return "–" if value is None else f"{value:,.{digits}f}"


def spread(rows, key, digits=0):
    """The median, and behind it the least and the most where there was more than one."""
    values = [row[key] for row in rows if row.get(key) is not None]
    text = number(median(rows, key), digits)
    return f"{text} ({number(min(values), digits)}–{number(max(values), digits)})" if len(values) > 1 else text


def ratio(ours, theirs):
    return "–" if not ours or not theirs else f"{ours / theirs:.2f}"


def markdown(heads, rows):
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"
