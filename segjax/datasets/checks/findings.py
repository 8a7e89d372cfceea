"""The kinds of findings, each with an action and a remedy."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple

from segjax.data.readers import kind_of_damage

Action = Literal["note", "repair", "quarantine"]


class Kind(NamedTuple):
    """One kind of finding.

    Attributes:
      title: heading in the report, above the images with this finding.
      action: `note` uses the image as it is, `repair` uses it repaired, `quarantine` excludes it. No file is
        ever deleted.
      remedy: advice to the user, one sentence.
    """

    title: str
    action: Action
    remedy: str


class Finding(NamedTuple):
    """One finding in one image.

    Attributes:
      kind: a key of `KINDS`.
      detail: one clause with the measured values.
    """

    kind: str
    detail: str


# In the order of the report: files, pairs, pixels, annotations, data set. An unusual property is only noted
# if the annotation is still correct and later steps still work.
KINDS: dict[str, Kind] = {
    "empty_file": Kind("Empty files", "quarantine", "copy the file again from its source"),
    "truncated": Kind("Truncated files", "quarantine", "copy the file again from its source"),
    "missing_file": Kind(
        "Files that are missing", "quarantine", "copy the file again from its source, or repair the link"
    ),
    "no_permission": Kind(
        "Files without permission to read",
        "quarantine",
        "change its permissions so that you may read the file, such as by chmod u+r",
    ),
    "unreadable_disk": Kind(
        "Files that the disk or the network does not return",
        "quarantine",
        "check the disk or the network, and copy the file again",
    ),
    "unreadable": Kind("Unreadable images", "quarantine", "save the image again as PNG or TIFF"),
    "invalid_annotation": Kind(
        "Unreadable annotations",
        "quarantine",
        "correct the annotation, or export the annotation again from the program that wrote it",
    ),
    "invalid_name": Kind(
        "Images whose name is not UTF-8", "quarantine", "rename the image and its mask with letters of UTF-8"
    ),
    "failed": Kind(
        "Images that could not be checked", "quarantine", "save the image and its mask again as PNG or TIFF"
    ),
    "no_pixels": Kind("Images without pixels", "quarantine", "export the image again"),
    "too_large": Kind("Images with too many pixels", "quarantine", "cut the image into tiles first"),
    "unclear_axes": Kind(
        "Stacks, not images",
        "quarantine",
        "choose one plane, such as --axis=Z=3, or use --channel_axis if an axis holds channels",
    ),
    "several_images": Kind(
        "Files with other images beside the one that is used",
        "note",
        "check that the right image is used, or save each image as its own file",
    ),
    "not_finite": Kind(
        "Images with NaN or infinite pixels", "quarantine", "replace these pixels by their neighbours"
    ),
    "alpha_only": Kind(
        "Images drawn only in the alpha channel", "quarantine", "flatten the image onto a background"
    ),
    "missing_mask": Kind(
        "Images without a mask", "quarantine", "name the mask like the image, or remove the image"
    ),
    "missing_class": Kind(
        "Images without a class in the table",
        "quarantine",
        "write a class into the table for every image, or remove the column `class`",
    ),
    "missing_image": Kind(
        "Masks without an image", "quarantine", "name the image like the mask, or remove the mask"
    ),
    "two_masks": Kind("Images with two masks", "quarantine", "keep one of the two masks"),
    "constant": Kind(
        "Images with a single pixel value", "quarantine", "export the image again from the microscope"
    ),
    "low_contrast": Kind(
        "Images with very low contrast", "note", "export the full range of values, preferably with 16 bits"
    ),
    "saturated": Kind(
        "Images with overexposed cells", "note", "reduce the exposure, or export without clipping"
    ),
    "blurred": Kind("Images out of focus", "note", "inspect the images, and remove those that are blurred"),
    "size_mismatch": Kind(
        "Masks that differ in size from the image",
        "quarantine",
        "export the mask again at the size of its image",
    ),
    "lossy_mask": Kind(
        "Masks altered by JPEG or scaling", "quarantine", "export the mask as PNG or TIFF, without scaling"
    ),
    "lossy_edges": Kind(
        "Masks made from a JPEG by a threshold",
        "note",
        "export the mask as PNG or TIFF; JPEG makes its edges inexact",
    ),
    "binary_mask": Kind(
        "Masks that do not separate cells",
        "quarantine",
        "give each cell its own id, or use --mask_format=binary",
    ),
    "class_map": Kind(
        "Masks of classes, not of cells",
        "quarantine",
        "give each cell its own id, or use --mask_format=classes, which makes each connected part a cell",
    ),
    "invalid_ids": Kind(
        "Masks with invalid ids", "quarantine", "number the cells 1 to N; the background is 0"
    ),
    "invalid_class": Kind(
        "Masks with unknown classes", "quarantine", "correct the class of the cell, or list all class names"
    ),
    "empty_mask": Kind(
        "Masks without any cell", "quarantine", "draw the cells, or use --accept=empty_mask if there are none"
    ),
    "inverted_mask": Kind(
        "Masks whose background is drawn as a cell",
        "quarantine",
        "swap the cells and the background, or erase the background cell",
    ),
    "background_id": Kind("Masks whose background has an id", "repair", "give the background the id 0"),
    "fragments": Kind(
        "Cells with small detached fragments, removed", "repair", "erase the fragments in the mask"
    ),
    "stray_pixels": Kind("Stray pixels, removed", "repair", "erase the pixels in the mask"),
    "id_gaps": Kind(
        "Masks whose ids have gaps, renumbered",
        "repair",
        "nothing needs to be done; renumbering loses nothing",
    ),
    "disconnected_instances": Kind(
        "Cells in several pieces", "note", "if the pieces are different cells, give each its own id"
    ),
    "tiny_instances": Kind("Cells of only a few pixels", "note", "erase those that are not cells"),
    "hidden_instances": Kind(
        "Outlines without a visible pixel",
        "note",
        "draw the outline inside the image and not under other cells, or remove it",
    ),
    "invalid_outlines": Kind(
        "Invalid outlines or masks, left out",
        "repair",
        "draw the outline again, with three points or more inside the image",
    ),
    "many_invalid_outlines": Kind(
        "Images with many invalid outlines or masks",
        "quarantine",
        "check that the annotation belongs to this image, and draw these outlines again, or use"
        " --accept=many_invalid_outlines, which leaves them out",
    ),
    "crowds": Kind(
        "Regions marked as crowds, ignored",
        "note",
        "if they are single cells, as the brush of some programs writes them, use --crowds=cells",
    ),
    "only_in_corner": Kind(
        "Masks with cells only in the top left quarter",
        "note",
        "check that the cells were drawn on this image, at its full resolution",
    ),
    "only_crowds": Kind(
        "Masks in which every cell is a crowd (iscrowd=1)",
        "quarantine",
        "use --crowds=cells if they are single cells, as the brush of some programs writes them",
    ),
    "large_instances": Kind("Cells far larger than the others", "note", "separate the cells that are merged"),
    "small_instances": Kind("Cells far smaller than the others", "note", "erase those that are not cells"),
    "unusual_size": Kind(
        "Images with an unusual size", "note", "check that the images belong to this data set"
    ),
    "unusual_channels": Kind(
        "Images with unusual channels", "quarantine", "export the images with the same channels as the others"
    ),
    "unusual_dtype": Kind(
        "Images with an unusual pixel type",
        "note",
        "export the images with the same pixel type as the others",
    ),
    "unusual_pixel_size": Kind(
        "Images with an unusual pixel size",
        "note",
        "write the pixel size in micrometres into the column `pixel_size` of the table",
    ),
    "duplicate": Kind("Duplicate images; one copy is used", "quarantine", "remove the other copies"),
    "duplicate_across_splits": Kind(
        "Duplicate images in two splits; one copy is used", "quarantine", "remove the other copies"
    ),
    "near_duplicate": Kind(
        "Similar images", "note", "put the similar images into one group, or remove all but one"
    ),
    "near_duplicate_across_splits": Kind(
        "Similar images in two splits", "quarantine", "put the similar images into one split"
    ),
    "shared_mask": Kind(
        "Different images with the same mask", "note", "check that each mask has the name of its image"
    ),
    "group_in_several_splits": Kind(
        "Groups in several splits", "note", "put all images of the group into one split"
    ),
}


def finding_of(error: Exception) -> Finding:
    """Converts the error of a reader or of the system to a finding.

    Its kind is `unreadable` if neither the error nor `kind_of_damage` states one.
    """
    kind = getattr(error, "kind", None) or kind_of_damage(error) or "unreadable"
    return Finding(kind, without_remedy(str(error).strip() or type(error).__name__))


def without_remedy(message: str) -> str:
    """Returns the first half of the message of an error; the kind of a finding has a remedy of its own."""
    return message.split("; ")[0]


def is_excluded(findings: Collection[Finding], accept: Collection[str] = ()) -> bool:
    """Returns whether any finding excludes the image; kinds in `accept` never do."""
    return any(KINDS[kind].action == "quarantine" and kind not in accept for kind, _ in findings)
