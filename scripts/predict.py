"""Segments an image, or every image of a folder and its subfolders.

    segjax predict --images=FOLDER --out=FOLDER
    segjax predict --workdir=runs/quickstart --images=FOLDER --out=FOLDER
    segjax predict --model=nuclei.safetensors --images=FOLDER --out=FOLDER
    segjax predict --config=classical:method=watershed --images=FOLDER --out=FOLDER
    segjax predict --workdir=runs/a,runs/b --flips --uncertainty --images=FOLDER --out=FOLDER

For each image it writes <stem>_labels.tif (instance id of each pixel, 0 for background), <stem>_classes.tif
(class of each pixel) and <stem>_overlay.png (preview), in the same subfolders as the images. --export=NAMES
chooses other formats:

    labels, overlay   the three files above
    ome-tiff          <stem>_cells.ome.tif: ids and classes, tiled, at several resolutions
    ome-zarr          <stem>_cells.ome.zarr: the image with the label image cells, OME-Zarr 0.5
    geojson           <stem>_cells.geojson: outlines with class, colour and score, for QuPath
    imagej            <stem>_rois.zip: outlines for ImageJ's ROI manager
    svg               <stem>_overlay.svg: the image with a path for each cell
    cutouts           <stem>_cutouts.zip: a PNG of each cell, transparent around it
    csv               <stem>_measurements.csv, and measurements.csv and measurements.parquet of all images,
                      also those of earlier runs with the same method, but without large images
    parquet           <stem>_cells.parquet: measurements and outlines, GeoParquet
    coco              predictions.json, all instances; detectors write their own boxes and full masks
    ctc               01_RES/mask000.tif, ...: the images of a folder as frames of the Cell Tracking Challenge
    uncertainty       <stem>_uncertainty.tif, and a column of the tables

--measure, --coco and --uncertainty add csv, coco and uncertainty. Measurements are size, shape, intensity,
texture and neighbours. A classical method takes its classes from --config.classifier.file=FILE, which segjax
evaluate writes.

--frames tracks cells over time, and --stack makes cells in 3-D: over the axis T or Z of a TIFF, or over the
images of each folder in natural order. --frames writes tracks.csv and tracks.parquet, the tracks with their
parents, and the formats ctc (01_RES/mask000.tif, ... and res_track.txt), overlay, labels (tracks_labels.tif,
all frames) and csv (measurements of each cell in each frame). --stack writes cells.csv and cells.parquet, and
the formats labels (cells_labels.tif, in 3-D), overlay and csv.

    segjax predict --images=movie.tif --frames --out=FOLDER

TIFF images of more than 33 million pixels, OME-Zarr and slides (pip install "segjax[slides]"), and images
with --level, --mpp or --region are read and written in parts: memory stays below 2 GB. Their formats are
ome-tiff, ome-zarr, csv, parquet and geojson; ome-tiff and csv are the default. After it was killed, the same
command continues after the last finished tile.

Run again, the same command skips finished images, unless the image or the method has changed. With further
formats, it writes the missing files without segmenting again. Images that fail are listed in failed.csv.
Earlier results and masks of other images are never segmented. Files that segjax predict did not write, or
that were changed since, are never replaced.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from segjax import cli
from segjax.errors import InputError

if TYPE_CHECKING:
    from segjax.experiment.export_formats import Exports
    from segjax.experiment.prediction import Prediction
    from segjax.experiment.prediction_inputs import Reading
    from segjax.experiment.series_prediction import SeriesPrediction, SeriesRequest

CONFIG = cli.define_config()
WORKDIR = flags.DEFINE_list(
    "workdir", [], "Folder of a run of segjax train. With several, such as A,B,C, their maps are averaged."
)
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
    "Plane of a stack: letter or number of each axis, and the index along it, counted from 0, such as Z=12 or"
    " T=0,Z=12.",
)
DIAMETER = flags.DEFINE_string(
    "diameter",
    None,
    "Typical diameter of the cells in pixels, for classical methods and for networks like nuclei, which scale"
    " images to the diameter of their training; auto, the default, estimates it for each image.",
)
EXPORT = flags.DEFINE_list(
    "export", ["labels", "overlay"], "Formats of the results, see above, such as labels,geojson,coco."
)
FLIPS = flags.DEFINE_bool(
    "flips", False, "Whether to average the maps of a segmenter over the image and its three mirror images."
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
UNCERTAINTY = flags.DEFINE_bool(
    "uncertainty", False, "Whether to write the uncertainty of the class of each pixel and of each cell."
)
NEIGHBOURS = flags.DEFINE_string(
    "neighbours",
    None,
    "Radius within which tables count the neighbours of each cell, by centroids: such as 40px, or 20um, which"
    " needs a pixel size. It adds csv, unless --export is given.",
)
WORKERS = flags.DEFINE_integer(
    "workers",
    2,
    "Images in progress at the same time; each needs memory. Large images are segmented one after the other.",
    lower_bound=1,
)
FRAMES = flags.DEFINE_bool("frames", False, "Whether to track cells over time, with divisions.")
STACK = flags.DEFINE_bool("stack", False, "Whether to link the cells of slices to cells in 3-D.")
TRACKING = {
    "frames": (
        flags.DEFINE_float(
            "max_move",
            None,
            "Largest distance that a cell moves from frame to frame, in typical diameters; 1 by default.",
        ),
        flags.DEFINE_integer(
            "max_gap", None, "Largest number of frames in which a cell may be missing; 2 by default."
        ),
        flags.DEFINE_bool("divisions", None, "Whether tracked cells may divide; they may by default."),
    ),
    "stack": (
        flags.DEFINE_float(
            "min_overlap",
            None,
            "Smallest intersection over union of a cell in two slices of a stack; 0.25 by default.",
        ),
    ),
}
LEVEL = flags.DEFINE_integer("level", None, "Level of a pyramid to segment, 0 for the finest.")
MPP = flags.DEFINE_float(
    "mpp", None, "Micrometres per pixel to which images are rescaled: those of the training, such as 0.5."
)
REGION = flags.DEFINE_string(
    "region",
    "",
    "Part to segment, in pixels of the finest level: x,y,width,height or a GeoJSON file; or tissue, which is"
    " separated by Otsu's threshold and shown in <stem>_tissue.png.",
)
flags.mark_flags_as_required(["images", "out"])


def main() -> None:
    """Segments the images and prints the number of instances."""
    from segjax.data.planes import parse_planes
    from segjax.experiment.export_formats import Exports
    from segjax.experiment.methods import with_diameter
    from segjax.experiment.prediction import Reading, predict
    from segjax.experiment.prediction_methods import select_method
    from segjax.experiment.prediction_view import View
    from segjax.experiment.series_prediction import predict_series
    from segjax.inference.neighbours import Radius
    from segjax.train.interruption import leave_at_once

    leave_at_once()

    try:
        channels = tuple(int(number) for number in CHANNELS.value)
    except ValueError:
        raise InputError(f"--channels={','.join(CHANNELS.value)} are not numbers such as 0,2,1") from None
    planes = parse_planes(AXIS.value)
    reading = Reading(channels, CHANNEL_AXIS.value, planes, View(LEVEL.value, MPP.value, REGION.value))
    is_counted = NEIGHBOURS.value is not None and not EXPORT.present
    added = {
        "csv": MEASURE.value or is_counted,
        "coco": COCO.value,
        "uncertainty": UNCERTAINTY.value,
    }
    exports = Exports(
        # Each once, in the order in which they are written.
        tuple(dict.fromkeys([*EXPORT.value, *(name for name, is_asked in added.items() if is_asked)])),
        PIXEL_SIZE.value,
        None if NEIGHBOURS.value is None else Radius.parse(NEIGHBOURS.value),
        are_chosen=bool(EXPORT.present),
    )
    request = _series_request(exports, reading)
    if exports.radius is not None and {"csv", "parquet"}.isdisjoint(exports.formats):
        raise InputError(
            "--neighbours is a column of tables: add csv or parquet to --export, or leave it out"
        )
    if WORKDIR.present and not WORKDIR.value:
        raise InputError("--workdir= is empty: give a value, or leave the flag out")
    method = select_method(
        [Path(workdir).expanduser() for workdir in WORKDIR.value],
        CONFIG.value,
        MODEL.value,
        flips=FLIPS.value,
    )
    if DIAMETER.value is not None:
        method = with_diameter(method, 0.0 if DIAMETER.value == "auto" else _pixels(DIAMETER.value))
    images, out = Path(IMAGES.value or ""), Path(OUT.value or "")
    prediction: SeriesPrediction | Prediction
    if request is None:
        prediction = predict(method, images, out, exports=exports, reading=reading, workers=WORKERS.value)
    else:
        prediction = predict_series(method, images, out, request)
    try:
        for _ in prediction:
            pass
    finally:
        print(prediction.summary)


def _series_request(exports: Exports, reading: Reading) -> SeriesRequest | None:
    """Returns the request of --frames or --stack; None without them."""
    from segjax.experiment import series_inputs
    from segjax.experiment.series_prediction import SeriesRequest
    from segjax.tracking import TrackingConfig

    asked = [flag.name for flag in (FRAMES, STACK) if flag.value]
    if len(asked) == 2:
        raise InputError(
            "--frames and --stack exclude each other: leave one out, and choose a plane by --axis"
        )
    settings: dict[str, Any] = {}
    for name, holders in TRACKING.items():
        for holder in holders:
            if holder.value is not None and name not in asked:
                raise InputError(f"--{holder.name} is a setting of --{name}: add --{name}, or leave it out")
            if holder.value is not None:
                settings[holder.name] = holder.value
    if not asked:
        return None
    if exports.radius is not None:
        raise InputError(f"--neighbours cannot be combined with --{asked[0]}: leave it out")
    if WORKERS.present:
        raise InputError(f"--workers has no effect with --{asked[0]}: leave it out")
    if reading.view.is_asked:
        raise InputError(f"--level, --mpp and --region cannot be combined with --{asked[0]}: leave them out")
    kind = series_inputs.FRAMES if FRAMES.value else series_inputs.STACK
    formats = exports.with_standard(kind.standard).formats
    try:
        tracking = TrackingConfig(**settings)
    except InputError as error:
        raise InputError(f"--{error}") from error
    return SeriesRequest(kind, formats, tracking, reading, exports.pixel_size)


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
