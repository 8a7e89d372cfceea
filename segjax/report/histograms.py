"""Histograms of a data set, as pictures."""

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
    """Draws the distribution of a quantity, of each of several kinds on top of each other.

    The axis is logarithmic where the largest value is many times the smallest.

    Args:
      values: of each kind, finite; kinds without values are left out.
      title: of the picture.
      unit: written below the axis.
      colours: the class whose colour a kind has.

    Returns:
      A PNG file, the same for the same values.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 2.9), dpi=110, layout="constrained")
    axes = figure.subplots()
    shown = {name: np.asarray(list(found), float) for name, found in values.items() if len(found)}
    if shown:
        whole = np.concatenate(list(shown.values()))
        low, high = float(whole.min()), float(whole.max())
        logarithmic = low > 0 and high > LOGARITHMIC * low
        if logarithmic:
            axes.set_xscale("log")
            edges = np.geomspace(low, high, 41)
        else:
            edges = np.linspace(low, high if high > low else low + 1, 41)
        for index, (name, found) in enumerate(shown.items()):
            colour = colour_of((colours or {}).get(name, index + 2))
            axes.hist(
                found,
                bins=[float(edge) for edge in edges],
                label=f"{name} ({len(found)})",
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
      colours: the class whose colour a bar has.

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
