"""Self-contained HTML pages from the templates of this package."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from segjax.report.overlays import colour_of


def render(template: str, **values: Any) -> str:
    """Renders a template of this package; all values are escaped."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, loader=jinja2.PackageLoader("segjax", "report")
    )
    return environment.get_template(template).render(**values)


def class_legend(class_names: Sequence[str]) -> list[tuple[str, str]]:
    """Returns name and CSS colour of every foreground class."""
    return [(name, css(colour_of(index))) for index, name in enumerate(class_names[1:], start=1)]


def css(colour: tuple[int, int, int]) -> str:
    """Returns a colour as CSS writes it.

    >>> css((0, 158, 255))
    '#009eff'
    """
    return "#{:02x}{:02x}{:02x}".format(*colour)


def jpeg_uri(picture: np.ndarray) -> str:
    """Encodes a picture as JPEG, without chroma subsampling, which would blur thin outlines."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=88, subsampling=0)
    return _data_uri("jpeg", buffer.getvalue())


def png_uri(content: bytes) -> str:
    """Embeds a PNG file."""
    return _data_uri("png", content)


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64," + base64.b64encode(content).decode("ascii")
