"""Histograms and bar charts of a data set as PNG files."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np

from segjax.report.overlays import colour_of

# Areas and intensities span decades.
LOGARITHMIC = 30.0


def histogram(
    values: Mapping[str, Sequence[float]], *, title: str, unit: str, colours: Mapping[str, int] | None = None
) -> bytes:
    """Draws overlaid histograms of a quantity, one per kind.

    The axis is logarithmic where the largest value is many times the smallest.

    Args:
      values: of each kind, finite; kinds without values are left out.
      title: of the picture.
      unit: written below the axis.
      colours: class index by kind, for its colour.

    Returns:
      A PNG file, the same for the same values.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 2.9), dpi=110, layout="constrained")
    axes = figure.subplots()
    shown = {name: np.asarray(list(numbers), float) for name, numbers in values.items() if len(numbers)}
    if shown:
        pooled = np.concatenate(list(shown.values()))
        low, high = float(pooled.min()), float(pooled.max())
        logarithmic = low > 0 and high > LOGARITHMIC * low
        if logarithmic:
            axes.set_xscale("log")
            edges = np.geomspace(low, high, 41)
        else:
            edges = np.linspace(low, high if high > low else low + 1, 41)
        for index, (name, numbers) in enumerate(shown.items()):
            colour = colour_of((colours or {}).get(name, index + 2))
            axes.hist(
                numbers,
                bins=[float(edge) for edge in edges],
                label=f"{name} ({len(numbers)})",
                color=_shade(colour),
                alpha=0.75,
            )
        if len(shown) > 1:
            axes.legend(frameon=False, fontsize=8)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(unit, fontsize=9)
    axes.set_ylabel("count", fontsize=9)
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return _png(figure)


def bars(values: Mapping[str, float], *, title: str, colours: Mapping[str, int] | None = None) -> bytes:
    """Draws one bar for each name.

    Args:
      values: by name.
      title: of the picture.
      colours: class index by name, for its colour.

    Returns:
      A PNG file, the same for the same values.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 1.1 + 0.28 * max(len(values), 1)), dpi=110, layout="constrained")
    axes = figure.subplots()
    names = list(values)[::-1]
    shades = [_shade(colour_of((colours or {}).get(name, 2))) for name in names]
    drawn = axes.barh(
        names,
        [values[name] for name in names],
        color=shades,
    )
    axes.bar_label(drawn, fmt="%g", fontsize=8, padding=3)
    axes.margins(x=0.12)
    axes.set_title(title, fontsize=10)
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return _png(figure)


def _shade(colour: tuple[int, int, int]) -> tuple[float, float, float]:
    red, green, blue = colour
    return red / 255, green / 255, blue / 255


def _png(figure) -> bytes:  # type: ignore[no-untyped-def] # matplotlib is imported when it is needed
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
