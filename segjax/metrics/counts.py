"""The base of all records of counts."""

import dataclasses
from typing import Any, Self


class Counts:
    """Base of dataclasses whose fields are counts of a set of images; adding two pools their images."""

    def __add__(self, other: Self) -> Self:
        """Adds every field."""
        fields: Any = dataclasses.fields(self)  # type: ignore[arg-type]
        return type(self)(*(getattr(self, field.name) + getattr(other, field.name) for field in fields))
