"""Augmentation of one training example, on the device: one warp for image and truth, then light and noise."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from segjax.data import photometry
from segjax.errors import InputError
from segjax.ops.filters import gaussian_blur
from segjax.ops.warp import sample
from segjax.typing import IGNORE, Array, Batch

Augment = Callable[[Array, Batch], Batch]

# What has the size of the image; all else in an example is passed through.
MAPS = ("image", "labels", "semantic", "distance")

# Every strength at which its augmentation is left out.
OFF: dict[str, Any] = {
    "flip": False,
    "quarter_turns": False,
    "rotation": 0.0,
    "scale": (1.0, 1.0),
    "elastic": (0.0, 1.0),
    "glow": 0.0,
    "illumination": 0.0,
    "gamma": (1.0, 1.0),
    "blur": (0.0, 0.0),
    "contrast": 0.0,
    "brightness": 0.0,
    "noise": 0.0,
}


def make_augment(
    *,
    patch_size: int,
    flip: bool = True,
    quarter_turns: bool = True,
    rotation: float = 45.0,
    scale: tuple[float, float] = (0.7, 1.4),
    elastic: tuple[float, float] = (2.0, 32.0),
    glow: float = 0.6,
    glow_reach: tuple[float, float] = (4.0, 16.0),
    illumination: float = 0.3,
    gamma: tuple[float, float] = (0.7, 1.5),
    blur: tuple[float, float] = (0.0, 1.0),
    contrast: float = 0.2,
    brightness: float = 0.1,
    noise: float = 0.08,
) -> Augment:
    """Makes the function that turns an example into one of its many likenesses.

    Whatever is 0, False, or the range (1, 1) of a factor, is left out of the program altogether.

    Args:
      patch_size: side of the patch that comes out, the centre of what goes in.
      flip: mirrors along either axis, each half of the time.
      quarter_turns: turns by 0, 90, 180 or 270 degrees.
      rotation: turns by at most so many degrees, either way; 45 with `quarter_turns` covers the circle.
      scale: range of the magnification, even on a logarithmic scale.
      elastic: `(standard deviation, smoothness)` in pixels of a random displacement that bends shapes.
      glow: light around the instances, see `photometry.glow`.
      glow_reach: how far that light reaches, pixels.
      illumination: unevenness of the light, see `photometry.illumination`.
      gamma: range of the power of intensities, see `photometry.gamma`.
      blur: range of the standard deviation of a Gaussian, pixels.
      contrast: see `photometry.exposure`.
      brightness: see `photometry.exposure`.
      noise: see `photometry.noise`.

    Returns:
      A function of a key and an example {"image" [S, S, C] float32, percentile-normalised, "labels" [S, S]
      int32, "semantic" [S, S] int32, "distance" [S, S] float32} to an example of `patch_size` for S. Image
      and distance are interpolated, labels and semantic take the nearest pixel. Beyond the source the
      image is reflected and is not to be judged (`IGNORE`, no instances); a source that is larger than the
      patch by `(cos(rotation) + sin(rotation)) / scale[0]` leaves nothing beyond it. An example may bring
      "proposals" [P, 4] and "proposals_valid" [P], which move along; whatever else it has is passed through.

    Raises:
      InputError: if a strength is negative or a range not rising, or (when called) the source is smaller
        than the patch or not square.

    References:
      Ronneberger et al., U-Net, section 3.1 (https://arxiv.org/abs/1505.04597), for the elastic displacement.
    """
    strengths = {"rotation": rotation, "elastic": elastic[0], "glow": glow, "illumination": illumination}
    strengths |= {"blur": blur[0], "contrast": contrast, "brightness": brightness, "noise": noise}
    for name, strength in strengths.items():
        if strength < 0:
            raise InputError(f"augment.{name} is {strength}: it must not be negative, 0 switches it off")
    ranges = {"scale": scale, "gamma": gamma, "glow_reach": glow_reach, "blur": blur}
    for name, (low, high) in ranges.items():
        if high < low or (low <= 0 and name != "blur"):
            raise InputError(f"augment.{name} is ({low}, {high}): give the lower, positive bound first")
    if elastic[1] <= 0:
        raise InputError(f"augment.elastic has the smoothness {elastic[1]}: give pixels above 0")

    moves = flip or quarter_turns or rotation > 0 or scale != (1, 1) or elastic[0] > 0

    def coordinates(key: Array, source_size: int) -> tuple[jax.Array, jax.Array]:
        """[2, patch_size, patch_size]: where each pixel of the patch comes from; and the matrix of it."""
        of_numbers, of_field = jax.random.split(key)
        mirrored, direction, angle, zoom = jnp.split(jax.random.uniform(of_numbers, (5,)), (2, 3, 4))
        from_centre = jnp.arange(patch_size, dtype=jnp.float32) - (patch_size - 1) / 2
        grid = jnp.stack(jnp.meshgrid(from_centre, from_centre, indexing="ij"))
        if elastic[0] > 0:
            field = photometry.smooth_field(of_field, grid.shape[1:], spacing=elastic[1], channels=2)
            grid += elastic[0] * jnp.moveaxis(field, -1, 0)
        matrix = jnp.eye(2)
        if flip:
            matrix *= jnp.where(mirrored < 0.5, 1.0, -1.0)[:, None]
        if quarter_turns:  # by whole numbers, so that pixels stay pixels
            number = jnp.floor(4 * direction[0]).astype(jnp.int32)
            matrix = _turn(jnp.array([1.0, 0, -1, 0])[number], jnp.array([0.0, 1, 0, -1])[number]) @ matrix
        if rotation > 0:
            radians = jnp.deg2rad(photometry.between((-rotation, rotation), angle[0]))
            matrix = _turn(jnp.cos(radians), jnp.sin(radians)) @ matrix
        matrix /= photometry.between(scale, zoom[0], logarithmic=True)
        moved = jnp.einsum("ij,jhw->ihw", matrix, grid, precision=jax.lax.Precision.HIGHEST)
        return moved + (source_size - patch_size) // 2 + (patch_size - 1) / 2, matrix

    def warp(key: Array, example: Batch) -> Batch:
        places, matrix = coordinates(key, len(example["labels"]))
        floats = jnp.concatenate([example["image"], example["distance"][..., None]], axis=-1)
        floats = sample(floats, places, order=1)
        integers = jnp.stack([example["labels"], example["semantic"]], axis=-1)
        integers = sample(integers, places, order=0, fill=IGNORE)
        labels = jnp.maximum(integers[..., 0], 0)
        return {
            **moved_proposals(example, matrix),
            "image": floats[..., :-1],
            "labels": labels,
            "semantic": integers[..., 1],
            "distance": jnp.where(labels > 0, floats[..., -1], 0),
        }

    def moved_proposals(example: Batch, to_source: Array) -> Batch:
        """The example with its proposals, if any, in the patch: upright boxes around the turned ones."""
        if "proposals" not in example:
            return example
        boxes = example["proposals"]
        overhang = (len(example["labels"]) - patch_size) // 2
        # Corners from the centre of the patch, as (y, x): pixels are at whole numbers, their edges at halves.
        corners = jnp.stack([boxes[:, jnp.array(pick)] for pick in ((1, 0), (1, 2), (3, 0), (3, 2))], axis=1)
        turned = (corners - overhang - patch_size / 2) @ jnp.linalg.inv(
            to_source
        ).T + patch_size / 2  # [P, 4, 2]
        low, high = turned.min(1)[:, ::-1], turned.max(1)[:, ::-1]
        whole = jnp.prod(high - low, axis=-1)
        low, high = jnp.clip(low, 0, patch_size), jnp.clip(high, 0, patch_size)
        inside = jnp.prod(high - low, axis=-1)
        return {
            **example,
            "proposals": jnp.concatenate([low, high], axis=-1),
            "proposals_valid": example["proposals_valid"] & (inside > 0.5 * whole),
        }

    def expose(key: Array, image: Array, labels: Array) -> Array:
        keys = jax.random.split(key, 6)
        low, high = photometry.intensity_range(image)
        if glow > 0:
            image = photometry.glow(keys[0], image, labels, strength=glow, reach=glow_reach)
        if illumination > 0:
            image = photometry.illumination(keys[1], image, strength=illumination)
        if gamma != (1, 1):
            image = photometry.gamma(keys[2], image, exponents=gamma)
        if glow > 0 or illumination > 0 or gamma != (1, 1):
            image = photometry.restore_range(image, low, high)
        if blur[1] > 0:
            image = gaussian_blur(image, photometry.between(blur, jax.random.uniform(keys[3])))
        if contrast > 0 or brightness > 0:
            image = photometry.exposure(keys[4], image, contrast=contrast, brightness=brightness)
        if noise > 0:
            image = photometry.noise(keys[5], image, strength=noise)
        return image

    def augment(key: Array, example: Batch) -> Batch:
        height, width = example["labels"].shape
        if height != width or height < patch_size:
            raise InputError(
                f"an example of {height} x {width} cannot give a patch of {patch_size} x {patch_size}"
            )
        if "proposals" in example and elastic[0] > 0:
            raise InputError("config.augment.elastic bends proposals to what is no box: set it to (0.0, 1.0)")
        of_warp, of_light = jax.random.split(key)
        if moves:
            example = warp(of_warp, example)
        else:
            start = (height - patch_size) // 2
            window = slice(start, start + patch_size)
            cut = {name: jnp.asarray(example[name][window, window]) for name in MAPS}
            example = {**moved_proposals(example, jnp.eye(2)), **cut}
        return {**example, "image": expose(of_light, example["image"], example["labels"])}

    return augment


def centre_crop(patch_size: int) -> Augment:
    """The augmentation that does nothing but cut out the centre.

    Args:
      patch_size: side of the patch.

    Returns:
      A function of a key and an example to an example, as `make_augment` returns it.
    """
    return make_augment(patch_size=patch_size, **OFF)


def _turn(cosine: Array, sine: Array) -> jax.Array:
    """The matrix that turns rows and columns about the centre, counter-clockwise like np.rot90."""
    return jnp.array([[cosine, sine], [-sine, cosine]])
