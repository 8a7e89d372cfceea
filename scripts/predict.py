"""Segments an image, or every image of a folder and its subfolders.

    segjax predict --images=FOLDER --out=FOLDER
    segjax predict --workdir=runs/quickstart --images=FOLDER --out=FOLDER
    segjax predict --model=nuclei.safetensors --images=FOLDER --out=FOLDER
    segjax predict --config=classical:method=watershed --images=FOLDER --out=FOLDER

For each image it writes <stem>_labels.tif (instance id of each pixel, 0 for background), <stem>_classes.tif
(class of each pixel) and <stem>_overlay.png (preview), in the same subfolders as the images. --measure adds
<stem>_measurements.csv, and measurements.csv and measurements.parquet of all images together: size, shape,
intensity, texture, neighbours. --coco adds predictions.json, all instances as a COCO data set; detectors
write their own boxes and full masks, which may overlap. A classical method takes its classes from
--config.classifier.file=FILE, which segjax evaluate writes.

The same command again skips the images that are finished, unless the image or the method has changed. Images
that fail are listed in failed.csv. Earlier results and masks of other images are never segmented, and no file
is replaced that segjax predict did not write.
"""

import math
from pathlib import Path

from absl import flags

from segjax import cli
from segjax.errors import InputError

CONFIG = cli.define_config()
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run of segjax train.")
MODEL = flags.DEFINE_string(
    "model",
    None,
    "File of segjax export, or the name of a network in the package: nuclei, which is the default.",
)
IMAGES = flags.DEFINE_string("images", None, "Folder of images and subfolders, or a single image.")
OUT = flags.DEFINE_string("out", None, "Folder for the results.")
AXIS = flags.DEFINE_list(
    "axis",
    [],
    "Plane of a stack: the position along each axis, by its letter or number, counted from 0, such as Z=12 or"
    " T=0,Z=12.",
)
DIAMETER = flags.DEFINE_string(
    "diameter",
    None,
    "Typical diameter of the cells in pixels, for classical methods and for networks like nuclei, which scale"
    " images to the diameter that they know; auto, the default, estimates it for each image.",
)
MEASURE = flags.DEFINE_bool("measure", False, "Whether to measure every instance and write tables.")
PIXEL_SIZE = flags.DEFINE_float(
    "pixel_size", None, "Side of a pixel in micrometres, for measurements in micrometres."
)
CHANNELS = flags.DEFINE_list(
    "channels", [], "Channels to use, in the order of the training images, such as 0,2,1; all by default."
)
CHANNEL_AXIS = flags.DEFINE_integer(
    "channel_axis", None, "Axis of the channels in a stack, if the file does not name its axes."
)
COCO = flags.DEFINE_bool(
    "coco", False, "Whether to write all instances to predictions.json, as a COCO data set."
)
flags.mark_flags_as_required(["images", "out"])


def main() -> None:
    """Segments the images and prints the number of instances."""
    from segjax.data.planes import parse_planes
    from segjax.experiment.methods import with_diameter
    from segjax.experiment.prediction import Reading, predict, select_method
    from segjax.train.interruption import leave_at_once

    leave_at_once()

    workdir = Path(WORKDIR.value) if WORKDIR.value else None
    try:
        channels = tuple(int(number) for number in CHANNELS.value)
    except ValueError:
        raise InputError(f"--channels={','.join(CHANNELS.value)} are not numbers such as 0,2,1") from None
    planes = parse_planes(AXIS.value)
    method = select_method(workdir, CONFIG.value, MODEL.value)
    if DIAMETER.value is not None:
        method = with_diameter(method, 0.0 if DIAMETER.value == "auto" else _pixels(DIAMETER.value))
    prediction = predict(
        method,
        Path(IMAGES.value or ""),
        Path(OUT.value or ""),
        measured=MEASURE.value,
        pixel_size=PIXEL_SIZE.value,
        as_coco=COCO.value,
        reading=Reading(channels, CHANNEL_AXIS.value, planes),
    )
    try:
        for _ in prediction:
            pass
    finally:
        print(prediction.summary)


def _pixels(text: str) -> float:
    try:
        diameter = float(text)
    except ValueError:
        diameter = math.nan
    if not diameter > 0:
        raise InputError(f"--diameter={text}: give pixels above 0, such as --diameter=30, or auto")
    return diameter


if __name__ == "__main__":
    cli.run(main)
