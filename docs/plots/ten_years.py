#!/usr/bin/env python3
"""Draws ten_years.svg: what a simulated hospital pays a month over its ten years, for each way of keeping its images.

    filmroom cost --profile published --json | docs/plots/ten_years.py > docs/plots/ten_years.svg

Needs nothing but Python. The figures are those of the command: this script only draws."""

import json
import sys
from html import escape

WIDTH, HEIGHT = 860, 470
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 50, 120
COLOURS = ["#0b6e4f", "#3aa17e", "#9bd1bb", "#8a1c1c", "#c9605a", "#e8b5ae"]
DASHES = ["", "7 4", "2 3"] * 2


def nice_step(most, ticks=6):
    """The smallest of 1, 2, 5, 10, ... of which no more than so many fit."""
    power = 1
    while True:
        for factor in (1, 2, 5):
            if most / (factor * power) <= ticks:
                return factor * power
        power *= 10


def main():
    document = json.load(sys.stdin)
    plans, profile = document["plans"], document["profile"]
    months = len(plans[0]["months"])
    most = max(month["total"] for plan in plans for month in plan["months"])
    step = nice_step(most)
    top = step * (int(most / step) + 1)

    def x(month):
        return LEFT + (WIDTH - LEFT - RIGHT) * month / months

    def y(cost):
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - cost / top)

    def text(at, height, words, anchor="start", size=12, colour="#222"):
        return f'<text x="{at:.0f}" y="{height:.0f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}">{escape(words)}</text>'

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
           text(LEFT, 22, f"{profile['studies'] / 1e6:g} million studies, {profile['instances'] / 1e6:g} million images, "
                f"{profile['bytes'] / 1e12:g} TB in {profile['years']:g} years: {document['prices']['currency']} a month", size=15),
           text(LEFT, 40, document["prices"]["source"], size=10, colour="#666")]
    for tick in range(0, int(top) + 1, step):
        out.append(f'<path d="M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        out.append(text(LEFT - 8, y(tick) + 4, f"{tick:,}", "end"))
    for year in range(0, months // 12 + 1):
        out.append(text(x(12 * year), HEIGHT - BOTTOM + 18, f"{year}" if year else "year 0", "middle"))
    for plan, colour, dash in zip(plans, COLOURS, DASHES):
        points = " ".join(f"{x(n):.1f},{y(month['total']):.1f}" for n, month in enumerate(plan["months"], 1))
        out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.2" stroke-dasharray="{dash}"/>')
    for n, (plan, colour, dash) in enumerate(zip(plans, COLOURS, DASHES)):
        at, height = LEFT + (n // 3) * 390, HEIGHT - BOTTOM + 46 + 22 * (n % 3)
        out.append(f'<path d="M{at} {height - 4}h34" stroke="{colour}" stroke-width="2.2" stroke-dasharray="{dash}"/>')
        out.append(text(at + 42, height, f"{plan['layout']}, {plan['keeping']}"))
    out.append("</svg>")
    print("\n".join(out))


if __name__ == "__main__":
    main()
