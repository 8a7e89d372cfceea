"""All kinds of findings, the action for each, and its remedy."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple

Action = Literal["note", "repair", "quarantine"]


class Kind(NamedTuple):
    """One kind of finding.

    Attributes:
      title: heading of the images that have it, in a report.
      action: `note` uses the image as it is, `repair` uses it repaired, `quarantine` excludes it. No file is
        ever deleted.
      remedy: what the user can do.
    """

    title: str
    action: Action
    remedy: str


class Finding(NamedTuple):
    """One finding in one image.

    Attributes:
      kind: a key of `KINDS`.
      detail: one clause with values.
    """

    kind: str
    detail: str


# In the order of a report: files, pairs, pixels, annotations, the data set. A property that does not make the
# annotation wrong and breaks nothing later is only noted, however unusual it is.
KINDS: dict[str, Kind] = {
    "empty_file": Kind("Empty files", "quarantine", "copy the file again from its source"),
    "truncated": Kind("Truncated files", "quarantine", "copy the file again from its source"),
    "unreadable": Kind("Unreadable files", "quarantine", "save it again as PNG or TIFF"),
    "no_pixels": Kind("Images without pixels", "quarantine", "export the image again"),
    "too_large": Kind("Images above the limit of pixels", "quarantine", "cut the image into tiles first"),
    "unclear_axes": Kind(
        "Stacks with an unknown channel axis", "quarantine", "give channel_axis, or save planes"
    ),
    "not_finite": Kind(
        "Images with NaN or infinite pixels", "quarantine", "replace these pixels by their neighbours"
    ),
    "alpha_only": Kind("Images with all content in alpha", "quarantine", "flatten it onto a background"),
    "missing_mask": Kind(
        "Images without a mask", "quarantine", "name it like the image, or remove the image"
    ),
    "missing_image": Kind(
        "Masks without an image", "quarantine", "name it like the mask, or remove the mask"
    ),
    "two_masks": Kind("Images with two masks", "quarantine", "keep one of them"),
    "constant": Kind("Images of a single value", "quarantine", "export it again from the microscope"),
    "low_contrast": Kind(
        "Images of very low contrast", "note", "export the full range of values, best at 16 bits"
    ),
    "saturated": Kind("Images with overexposed cells", "note", "expose less, or export without clipping"),
    "blurred": Kind("Images out of focus", "note", "inspect them, and remove those that are"),
    "size_mismatch": Kind(
        "Masks of another size than the image", "quarantine", "export the mask again from its image"
    ),
    "lossy_mask": Kind(
        "Masks altered by JPEG or scaling", "quarantine", "export it as PNG or TIFF, unscaled"
    ),
    "lossy_edges": Kind("Masks thresholded from a JPEG", "note", "export it as PNG or TIFF: edges are off"),
    "binary_mask": Kind(
        "Masks that do not separate cells", "quarantine", "number them, or use --mask_format=binary"
    ),
    "invalid_ids": Kind("Masks with values that are not ids", "quarantine", "number cells 1 to N"),
    "invalid_class": Kind("Masks with unknown classes", "quarantine", "correct the class, or name all"),
    "empty_mask": Kind("Masks that are all background", "quarantine", "draw the cells, or accept this kind"),
    "inverted_mask": Kind("Masks with a background cell", "quarantine", "swap background and cells"),
    "background_id": Kind("Masks whose background has an id", "repair", "give the background id 0"),
    "fragments": Kind("Cells with stray fragments, removed", "repair", "erase the fragments in the mask"),
    "stray_pixels": Kind("Stray pixels, removed", "repair", "erase them in the mask"),
    "id_gaps": Kind("Masks whose ids have gaps, renumbered", "repair", "nothing: renumbering loses nothing"),
    "disconnected_instances": Kind("Cells in several pieces", "note", "give each cell its own id"),
    "tiny_instances": Kind("Cells of a few pixels", "note", "erase those that are not cells"),
    "hidden_instances": Kind(
        "Outlines without a visible pixel", "note", "draw them again in a visible place"
    ),
    "large_instances": Kind("Cells far larger than the others", "note", "separate merged cells"),
    "small_instances": Kind("Cells far smaller than the others", "note", "erase those that are not cells"),
    "unusual_size": Kind("Images of an unusual size", "note", "check that they belong to this data set"),
    "unusual_channels": Kind("Images with unusual channels", "quarantine", "export them like the others"),
    "unusual_dtype": Kind("Images with an unusual type of pixel", "note", "export them like the others"),
    "duplicate": Kind("Duplicates; one copy stays", "quarantine", "remove the copies"),
    "duplicate_across_splits": Kind("Duplicates in two splits; one stays", "quarantine", "remove the copies"),
    "near_duplicate": Kind("Similar images", "note", "give both one group, or remove one"),
    "near_duplicate_across_splits": Kind(
        "Similar images in two splits", "quarantine", "put both into one split"
    ),
    "shared_mask": Kind("Different images with the same mask", "note", "check the names of the masks"),
    "group_in_several_splits": Kind("Groups in several splits", "note", "put the group into one split"),
}


def finding_of(error: Exception) -> Finding:
    """Converts an error of a reader to a finding, `unreadable` if the error has no `kind`."""
    message = str(error).strip() or type(error).__name__
    # The second half of the message is the remedy, which the kind has.
    return Finding(getattr(error, "kind", None) or "unreadable", message.split("; ")[0])


def is_excluded(findings: Collection[Finding], accept: Collection[str] = ()) -> bool:
    """Whether one of the findings excludes an image; kinds in `accept` do not."""
    return any(KINDS[kind].action == "quarantine" and kind not in accept for kind, _ in findings)
