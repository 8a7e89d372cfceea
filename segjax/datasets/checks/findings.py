"""Every kind of damage that is looked for, what is done about it, and what a person can do."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Action = Literal["note", "repair", "quarantine"]


class Kind(NamedTuple):
    """One kind of damage.

    Attributes:
      title: of the list of images that have it, in a report.
      action: `note` keeps the image as it is, `repair` keeps it repaired, `quarantine` leaves it out. Nothing
        is ever deleted.
      way_out: what the person at the terminal can do.
    """

    title: str
    action: Action
    way_out: str


class Finding(NamedTuple):
    """One kind of damage that one image has.

    Attributes:
      kind: a key of `KINDS`.
      detail: one clause that names values.
    """

    kind: str
    detail: str


# In the order of a report: files, pairs, pixels, drawings, the set. What says nothing false about the cells
# and breaks nothing later is only noted, however odd it looks.
KINDS: dict[str, Kind] = {
    "empty_file": Kind("Files of no bytes", "quarantine", "copy the file again from where it came"),
    "truncated": Kind("Files that end too early", "quarantine", "copy the file again from where it came"),
    "unreadable": Kind(
        "Files that cannot be read", "quarantine", "save the file as PNG or TIFF with another program"
    ),
    "no_pixels": Kind("Images of no pixels", "quarantine", "export the image again"),
    "too_large": Kind(
        "Images that declare more pixels than are allowed", "quarantine", "cut the image into tiles first"
    ),
    "unclear_axes": Kind(
        "Stacks that do not say where their channels are",
        "quarantine",
        "save one plane for each file, or say which axis holds channels",
    ),
    "not_finite": Kind(
        "Images with NaN or infinite pixels", "quarantine", "replace those pixels, say by their neighbours"
    ),
    "alpha_only": Kind(
        "Images whose content lies in their transparency",
        "quarantine",
        "flatten the image onto a background and save it without transparency",
    ),
    "missing_mask": Kind(
        "Images without a mask", "quarantine", "add the mask under the image's name, or remove the image"
    ),
    "missing_image": Kind(
        "Masks without an image", "quarantine", "add the image under the mask's name, or remove the mask"
    ),
    "two_masks": Kind("Images with two masks", "quarantine", "keep one of them"),
    "constant": Kind("Images of a single value", "quarantine", "export the image again from the microscope"),
    "faint": Kind(
        "Images of hardly any contrast", "note", "export with the full range of values, best at 16 bits"
    ),
    "saturated": Kind(
        "Images whose cells are overexposed", "note", "acquire with less exposure, or export without clipping"
    ),
    "blurred": Kind("Images out of focus", "note", "look at them, and leave out those that are"),
    "other_size": Kind(
        "Masks of another size than their image",
        "quarantine",
        "export the mask again from the image it was drawn on",
    ),
    "lossy_mask": Kind(
        "Masks that went through JPEG or interpolation",
        "quarantine",
        "export the mask again as PNG or TIFF, at the size at which it was drawn",
    ),
    "lossy_edges": Kind(
        "Masks of cells that were cut from a JPEG",
        "note",
        "export the mask again as PNG or TIFF: edges are off",
    ),
    "binary_mask": Kind(
        "Masks that tell cells from background, but not from each other",
        "quarantine",
        "give masks with an id for each cell, or take connected components by --mask_format=binary",
    ),
    "bad_ids": Kind(
        "Masks with values that are no ids",
        "quarantine",
        "number the cells 1, 2, 3, ... with 0 for background",
    ),
    "bad_class": Kind(
        "Masks with classes that the data set does not have",
        "quarantine",
        "correct the class, or name all classes",
    ),
    "empty_mask": Kind(
        "Masks that are all background",
        "quarantine",
        "draw the cells, or accept empty masks if there are none",
    ),
    "inverted_mask": Kind(
        "Masks whose background is drawn as a cell", "quarantine", "swap background and cells in the mask"
    ),
    "background_id": Kind(
        "Masks whose background has an id, and no pixel is 0", "repair", "give the background the id 0"
    ),
    "fragments": Kind(
        "Cells with stray fragments, which are removed", "repair", "erase the fragments in the mask"
    ),
    "dots": Kind(
        "Dots of three pixels or fewer, far smaller than the other cells, which are removed",
        "repair",
        "erase them in the mask",
    ),
    "gaps": Kind(
        "Masks whose ids have gaps, which are renumbered", "repair", "nothing: renumbering loses nothing"
    ),
    "pieces": Kind(
        "Cells in several pieces", "note", "see whether one id was given to two cells, and give each its own"
    ),
    "specks": Kind(
        "Cells of a few pixels", "note", "see whether they are cells, and erase those that are not"
    ),
    "unseen": Kind(
        "Outlines that cover no pixel, or lie whole under others",
        "note",
        "draw them anew where they should be seen",
    ),
    "large_cells": Kind(
        "Cells far larger than the others", "note", "see whether several cells were drawn as one"
    ),
    "small_cells": Kind("Cells far smaller than the others", "note", "see whether they are cells"),
    "odd_size": Kind("Images of an unusual size", "note", "see whether they belong to this data set"),
    "other_channels": Kind(
        "Images with other channels than most",
        "quarantine",
        "export them with the channels of the others, or prepare them as a data set of their own",
    ),
    "other_dtype": Kind(
        "Images of another type of pixel than most", "note", "see whether they were exported like the others"
    ),
    "duplicate": Kind("Images that are there twice, of which one is kept", "quarantine", "remove the copies"),
    "duplicate_across_splits": Kind(
        "Images that are in two splits, of which one is kept", "quarantine", "remove the copies"
    ),
    "near_duplicate": Kind(
        "Images that look like another",
        "note",
        "give both one group, so that no split tears them apart, or remove one",
    ),
    "near_duplicate_across_splits": Kind(
        "Images that look like another in another split",
        "quarantine",
        "put both into one split, or give them one group and let the split be made",
    ),
    "shared_mask": Kind(
        "Different images with the same mask", "note", "see whether one was saved under the name of the other"
    ),
    "group_in_several_splits": Kind(
        "Images whose group lies in several splits",
        "note",
        "put the group into one split, or leave the split to be made",
    ),
}

# What readers say, in words that only one kind of error has; the first that is found decides.
_SAID = (
    ("no_pixels", r"is empty: "),
    ("too_large", r"declares .* more than|decompression bomb"),
    ("not_finite", r"NaN or infinite"),
    ("lossy_mask", r"is a JPEG, which alters"),
    ("bad_ids", r"holds fractions|holds ids outside|but a mask has 0|not 8-bit colours|a label map has one"),
    ("bad_class", r"the classes are|has the group|on class \d+"),
    ("two_masks", r"both annotate"),
    ("missing_mask", r"holds no annotation of|lists no image|no folder of masks"),
    ("unclear_axes", r"is a stack of shape|holds an array of shape|would have \d+ channels"),
    ("other_size", r"but (its|the) image|another (shape|size)"),
    (
        "truncated",
        r"truncated|holds data for fewer|end of file|EOF|ends? too early|incomplete|input stream too small"
        r"|failed to read \d+ bytes|failed to read all data",
    ),
)


def finding_of(error: Exception) -> Finding:
    """What an error of a reader is as a finding.

    Args:
      error: as raised by `read_image`, `read_labels` or what reads annotations.

    Returns:
      The finding; of a kind that is recognised by nothing, `unreadable`.
    """
    message = str(error).strip() or type(error).__name__
    kind = next((kind for kind, words in _SAID if re.search(words, message, re.IGNORECASE)), "unreadable")
    # The rest of the sentence is the way out, which the kind has.
    return Finding(kind, message.split("; ")[0])
