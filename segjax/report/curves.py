"""Training curves as inline SVG, styled by the surrounding page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 34


def line_chart(points: Sequence[tuple[float, float]], *, name: str) -> str:
    """Draws a curve over the steps.

    Args:
      points: `(step, value)`, by rising step. A value that is not finite interrupts the curve.
      name: what the values are; plain text, to be escaped here.

    Returns:
      An `<svg>` element. Lines are `currentColor` and the class `curve`, for the page to colour.
    """
    finite = [(x, y) for x, y in points if math.isfinite(y)]
    if not finite:
        return ""
    # The range excludes the largest 1% so that one spike does not flatten the curve.
    values = sorted(y for _, y in finite)
    bottom, top = values[0], values[min(len(values) - 1, math.ceil(0.99 * len(values)))]
    if 0 < bottom < 0.5 * top:
        bottom = 0.0
    if top <= bottom:
        bottom, top = bottom - 0.5 * abs(bottom or 1), top + 0.5 * abs(top or 1)
    levels = ticks(bottom, top)
    # The axis ends on a round number, so that the curve has a scale up to its highest point.
    size = levels[1] - levels[0] if len(levels) > 1 else top - bottom
    bottom, top = math.floor(bottom / size + 1e-9) * size, math.ceil(top / size - 1e-9) * size
    first, last = points[0][0], points[-1][0]

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - first) / (last - first) if last > first else 0.5
        up = (min(max(y, bottom), top) - bottom) / (top - bottom)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    lines = []
    for tick in ticks(bottom, top):
        y = at(first, tick)[1]
        lines.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in ticks(first, last):
        x = at(tick, bottom)[0]
        lines.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{tick:g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    lines.append(f'<text x="{middle}" y="{HEIGHT - 2}" text-anchor="middle">step</text>')
    for part in _unbroken(points):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in part))
        lines.append(
            f'<polyline class="curve" points="{path}"/>'
            if len(part) > 1
            else '<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="3"/>'.format(*at(*part[0]))
        )
    label = f"{escape(name)} over {len(points)} steps, last {finite[-1][1]:.4g}"
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">' + "".join(lines) + "</svg>"


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers between two, about `count` of them."""
    if high <= low:
        return [low]
    rough = (high - low) / count
    size = 10.0 ** math.floor(math.log10(rough))
    size *= next(step for step in (1, 2, 5, 10) if step * size >= rough)
    start = math.ceil(low / size - 1e-9)
    return [round(k * size, 12) for k in range(start, math.floor(high / size + 1e-9) + 1)]


def _unbroken(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    parts: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if math.isfinite(y):
            parts[-1].append((x, y))
        elif parts[-1]:
            parts.append([])
    return [part for part in parts if part]
