"""The base of all records of counts."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Self, TypeVar


class Counts:
    """Base of dataclasses whose fields are counts of a set of images; adding two pools their images.

    Numbers and arrays are added. A tuple has one entry per image, and tuples are concatenated.

    Attributes:
      SAME: names of the fields that state how to count; counts that differ in them do not add up.
    """

    SAME: ClassVar[tuple[str, ...]] = ()

    def __add__(self, other: Self) -> Self:
        """Adds every field.

        Raises:
          ValueError: if the counts were made in different ways.
        """
        fields: Any = dataclasses.fields(self)  # type: ignore[arg-type]
        values = {field.name: (getattr(self, field.name), getattr(other, field.name)) for field in fields}
        for name in self.SAME:
            first, second = values[name]
            if first != second:
                raise ValueError(f"counts with {name} {first} and {second} do not add up")
        return type(self)(
            **{name: pair[0] if name in self.SAME else pair[0] + pair[1] for name, pair in values.items()}
        )


AnyCounts = TypeVar("AnyCounts", bound=Counts)


def pooled(counts: Sequence[AnyCounts], empty: AnyCounts) -> AnyCounts:
    """Returns the sum of counts, `empty` without any; adds in pairs, so that tuples are copied rarely."""
    counts = list(counts)
    while len(counts) > 1:
        pairs = zip(counts[::2], counts[1::2], strict=False)
        counts = [first + second for first, second in pairs] + counts[len(counts) // 2 * 2 :]
    return counts[0] if counts else empty
