#!/usr/bin/env python3
"""Draws growth.svg: how fast images arrive, and how long C-FIND takes, with more and more studies in the catalogue.

    docs/plots/growth.py target/bench/FIGURES.jsonl > docs/plots/growth.svg

The figures are those that `tests/bench/run find` kept: this script only draws. Needs nothing but Python."""

import json
import math
import statistics
import sys
from html import escape

WIDTH, HEIGHT, LEFT, GAP, TOP, BOTTOM = 860, 450, 64, 90, 74, 110
PANEL = (WIDTH - LEFT - GAP - 20) / 2
COLOURS = {"filmroom, SQLite": "#0b6e4f", "filmroom, PostgreSQL": "#8a1c1c"}
DASHES = ["", "7 4", "2 3", "9 3 2 3"]
KINDS = {"small": "SR of 3 KB", "ct": "CT of 527 KB"}
QUESTIONS = {"PatientId": "Patient ID", "Accession": "Accession No.", "StudyUid": "Study UID", "ModalityDay": "CT of a day"}


def text(at, height, words, anchor="start", size=12, colour="#222"):
    return f'<text x="{at:.0f}" y="{height:.0f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}">{escape(words)}</text>'


def short(studies):
    """20 k, 1 M."""
    for unit, sign in ((10**6, " M"), (1000, " k")):
        if studies >= unit:
            return f"{studies / unit:g}{sign}"
    return "none"


def panel(left, title, lines):
    """One plot of lines `(server, word, {studies: value})`; the studies on a logarithmic axis, an empty catalogue at its left end."""
    sizes = sorted({studies for *_, points in lines for studies in points})
    least = min(studies for studies in sizes if studies)
    most = max(value for *_, points in lines for value in points.values())
    step = 10 ** math.floor(math.log10(most))
    step = next(step * part for part in (0.1, 0.2, 0.5, 1) if most / (step * part) <= 6)
    top = step * math.ceil(most / step)

    def x(studies):
        place = math.log(studies / least) / math.log(sizes[-1] / least) if studies else -0.18
        return left + PANEL * (0.18 + place) / 1.18

    def y(value):
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top)

    out = [text(left, TOP - 18, title, size=14)]
    for tick in range(round(top / step) + 1):
        out.append(f'<path d="M{left} {y(tick * step):.1f}h{PANEL}" stroke="#ddd"/>')
        out.append(text(left - 8, y(tick * step) + 4, f"{tick * step:,g}", "end"))
    for studies in sizes:
        out.append(text(x(studies), HEIGHT - BOTTOM + 18, short(studies), "middle"))
    for place, (server, word, points) in enumerate(lines):
        colour, dash = COLOURS[server], DASHES[[w for s, w, _ in lines if s == server].index(word)]
        path = " ".join(f"{x(studies):.1f},{y(value):.1f}" for studies, value in sorted(points.items()))
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.2" stroke-dasharray="{dash}"/>')
        rows = (len(lines) + 1) // 2
        at, height = left + (place // rows) * (PANEL / 2), HEIGHT - BOTTOM + 42 + 17 * (place % rows)
        out.append(f'<path d="M{at:.0f} {height - 4}h26" stroke="{colour}" stroke-width="2.2" stroke-dasharray="{dash}"/>')
        out.append(text(at + 32, height, f"{server.split(', ')[1]}, {word}", size=11))
    return out


def lines(rows, field, words, value):
    found = []
    for server in COLOURS:
        for key, word in words.items():
            points = {}
            for row in rows:
                if row.get("server") == server and row.get(field) == key and value in row:
                    points.setdefault(row["studies"], []).append(row[value])
            if points:
                found.append((server, word, {studies: statistics.median(values) for studies, values in points.items()}))
    return found


def main():
    rows = [json.loads(line) for line in open(sys.argv[1])]
    ingest = lines([row for row in rows if row["scenario"] == "ingest"], "kind", KINDS, "images_per_second")
    find = lines([row for row in rows if row["scenario"] == "find"], "question", QUESTIONS, "p50_ms")
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
           text(LEFT, 20, "With more and more studies in the catalogue", size=15),
           *panel(LEFT, "C-STORE over 4 associations, images/s", ingest),
           *panel(LEFT + PANEL + GAP, "C-FIND on one association, p50, ms", find),
           "</svg>"]
    print("\n".join(out))


if __name__ == "__main__":
    main()
