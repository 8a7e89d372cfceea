"""Charts as PNG files; equal values give equal files."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from segjax.report.overlays import colour_of

# The axis of a histogram is logarithmic if the largest value is more than this times the smallest.
LOGARITHMIC = 30.0
LINE_COLOUR = "#0b62a8"
# Okabe and Ito's colours, which colour-blind readers distinguish; without yellow, which is faint on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
# Markers and dashes repeat after another number of series than the colours.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", ":", "-.")


def line_chart(points: Sequence[tuple[float, float]]) -> bytes | None:
    """Draws a curve over the steps; None if no value is finite.

    Args:
      points: `(step, value)`, by rising step. A value that is not finite interrupts the curve.
    """
    steps, values = np.array(points, float).reshape(-1, 2).T
    finite = np.isfinite(values)
    if not finite.any():
        return None
    figure, axes = _figure(2.9)
    axes.plot(steps, np.where(finite, values, np.nan), color=LINE_COLOUR)
    before, after = np.pad(finite, (1, 0))[:-1], np.pad(finite, (0, 1))[1:]
    alone = finite & ~before & ~after
    axes.plot(steps[alone], values[alone], ".", color=LINE_COLOUR)
    # The range excludes the largest 1 % so that one spike does not flatten the curve.
    low, high = values[finite].min(), np.quantile(values[finite], 0.99, method="higher")
    if 0 < low < 0.5 * high:
        low = 0.0
    if low < high:
        margin = 0.05 * (high - low)
        axes.set_ylim(low if low == 0 else low - margin, high + margin)
    axes.grid(axis="y", alpha=0.4)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("step", fontsize=9)
    return _png(figure)


def histogram(
    values: Mapping[str, Sequence[float]], *, title: str, unit: str, colours: Mapping[str, int] | None = None
) -> bytes:
    """Draws overlaid histograms of a quantity, one per kind.

    Args:
      values: finite values by kind; kinds without values are left out.
      title: title of the chart.
      unit: written below the axis.
      colours: class index by kind, for its colour.
    """
    figure, axes = _figure(2.9, title)
    shown = {name: np.asarray(list(numbers), float) for name, numbers in values.items() if len(numbers)}
    if shown:
        pooled = np.concatenate(list(shown.values()))
        low, high = float(pooled.min()), float(pooled.max())
        if low > 0 and high > LOGARITHMIC * low:
            axes.set_xscale("log")
            edges = np.geomspace(low, high, 41)
        else:
            edges = np.linspace(low, high if high > low else low + 1, 41)
        for index, (name, numbers) in enumerate(shown.items()):
            colour = _shade((colours or {}).get(name, index + 2))
            axes.hist(
                numbers,
                bins=edges.tolist(),
                label=_plain(f"{name} ({len(numbers)})"),
                color=colour,
                alpha=0.75,
            )
        if len(shown) > 1:
            axes.legend(frameon=False, fontsize=8, loc="upper right")
    axes.set_xlabel(unit, fontsize=9)
    axes.set_ylabel("count", fontsize=9)
    return _png(figure)


def scatter(points: Mapping[str, tuple[float, float]], *, x: str, y: str) -> bytes:
    """Draws a dot with a name for each point.

    Args:
      points: `(x, y)` by name, with x above 0.
      x: written below the horizontal axis.
      y: written beside the vertical axis.
    """
    figure, axes = _figure(max(3.4, 0.6 + 0.17 * len(points)))
    for index, (name, (horizontal, vertical)) in enumerate(points.items()):
        axes.plot(
            horizontal,
            vertical,
            MARKERS[index % len(MARKERS)],
            color=COLOURS[index % len(COLOURS)],
            markersize=8,
            label=_plain(name),
        )
    values = [horizontal for horizontal, _ in points.values()]
    if max(values) > LOGARITHMIC * min(values):
        axes.set_xscale("log")
    axes.margins(0.1)
    _describe(axes, x, y)
    return _png(figure)


def curves(values: Mapping[str, Sequence[tuple[float, float]]], *, x: str, y: str) -> bytes:
    """Draws several curves.

    Args:
      values: `(x, y)` by rising x, for each name.
      x: written below the horizontal axis.
      y: written beside the vertical axis.
    """
    figure, axes = _figure(max(3.4, 0.6 + 0.17 * len(values)))
    for index, (name, points) in enumerate(values.items()):
        axes.plot(
            *zip(*points, strict=True),
            color=COLOURS[index % len(COLOURS)],
            linestyle=DASHES[index % len(DASHES)],
            label=_plain(name),
        )
    _describe(axes, x, y)
    return _png(figure)


def bars(
    values: Mapping[str, float],
    *,
    title: str,
    colours: Mapping[str, int] | None = None,
    fmt: str = "%g",
) -> bytes:
    """Draws one bar for each name.

    Args:
      values: height of each bar, by name.
      title: title of the chart.
      colours: class index by name, for its colour.
      fmt: format of the numbers at the bars.
    """
    figure, axes = _figure(1.1 + 0.28 * max(len(values), 1), title)
    names = list(values)[::-1]
    shades = [_shade((colours or {}).get(name, 2)) for name in names]
    axes.bar_label(
        axes.barh([_plain(name) for name in names], [values[name] for name in names], color=shades),
        fmt=fmt,
        fontsize=8,
        padding=3,
    )
    axes.margins(x=0.12)
    return _png(figure)


def _figure(height: float, title: str = "") -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.2, height), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=10)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _describe(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.grid(alpha=0.4)
    axes.legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _plain(name: str) -> str:
    """Escapes dollar signs, which would start a formula."""
    return name.replace("$", r"\$")


def _shade(index: int) -> tuple[float, float, float]:
    red, green, blue = colour_of(index)
    return red / 255, green / 255, blue / 255


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
