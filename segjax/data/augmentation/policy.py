"""Augmentation policies: named operations composed into one jittable function."""

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, cast

import jax
from absl import logging

from segjax.data.augmentation import channels, geometric, photometric
from segjax.data.augmentation.copy_paste import copy_paste
from segjax.data.augmentation.cutout import cut_out
from segjax.data.stain import stain_jitter
from segjax.errors import InputError
from segjax.settings import broken_rule
from segjax.typing import Array, Batch

Augment = Callable[[Array, Batch], Batch]
Strengths = Mapping[str, Any]


class Operation(NamedTuple):
    """An operation of a policy.

    Attributes:
      kind: "geometric" moves pixels; consecutive operations form one warp. "photometric" changes the range
        of intensities, which is restored after consecutive operations. "image" changes only the image.
        "example" may change all keys.
      slot: index of the random key; makes the random numbers independent of the other operations.
        Geometric operations share another key and ignore it.
      parameters: defaults by name. The first parameter is the field `<operation>` of the config, the others
        are `<operation>_<parameter>`.
      off: value of the first parameter that disables the operation.
      function: `(key, *arrays, **parameters) -> image`, or for kind "example"
        `(key, example, **parameters) -> example`. None for geometric operations, which are in
        `segjax.data.augmentation.geometric`.
      reads: keys of the arrays that `function` takes.
    """

    kind: Literal["geometric", "photometric", "image", "example"]
    slot: int
    parameters: Mapping[str, Any]
    off: Any
    function: Callable[..., Any] | None = None
    reads: tuple[str, ...] = ("image",)


# In the recommended order of application.
OPERATIONS = {
    "scale": Operation("geometric", 0, {"range": (0.7, 1.4)}, (1.0, 1.0)),
    "shear": Operation("geometric", 0, {"degrees": 10.0}, 0.0),
    "stretch": Operation("geometric", 0, {"range": (0.8, 1.25)}, (1.0, 1.0)),
    "rotation": Operation("geometric", 0, {"degrees": 45.0}, 0.0),
    "rot90": Operation("geometric", 0, {"on": True}, False),
    "flip": Operation("geometric", 0, {"on": True}, False),
    "elastic": Operation("geometric", 0, {"displacement": (2.0, 32.0)}, (0.0, 1.0)),
    "copy_paste": Operation("example", 7, {"count": 4, "overlap": 0.3}, 0, copy_paste),
    "stain": Operation("photometric", 6, {"strength": 0.3}, 0.0, stain_jitter),
    "glow": Operation(
        "photometric", 0, {"strength": 0.6, "radius": (4.0, 16.0)}, 0.0, photometric.glow, ("image", "labels")
    ),
    "illumination": Operation("photometric", 1, {"strength": 0.3}, 0.0, photometric.illumination),
    "gamma": Operation("photometric", 2, {"exponents": (0.7, 1.5)}, (1.0, 1.0), photometric.gamma),
    "blur": Operation("image", 3, {"sigma": (0.0, 1.0)}, (0.0, 0.0), photometric.blur),
    "contrast": Operation("image", 4, {"strength": 0.2}, 0.0, photometric.contrast),
    "brightness": Operation("image", 4, {"strength": 0.1}, 0.0, photometric.brightness),
    "noise": Operation("image", 5, {"strength": 0.08}, 0.0, photometric.noise),
    "invert": Operation("photometric", 9, {"probability": 0.25}, 0.0, channels.invert),
    "shuffle_channels": Operation("image", 10, {"probability": 0.25}, 0.0, channels.shuffle_channels),
    "greyscale": Operation("image", 11, {"probability": 0.25}, 0.0, channels.greyscale),
    "cutout": Operation("example", 8, {"fraction": 0.3, "count": 2}, 0.0, cut_out),
}
# Operations that suit only some images, or erase content, are off by default.
SPECIAL = (
    "shear",
    "stretch",
    "copy_paste",
    "stain",
    "invert",
    "shuffle_channels",
    "greyscale",
    "cutout",
)
POLICY = tuple(name for name in OPERATIONS if name not in SPECIAL)


def strength_fields(name: str) -> dict[str, str]:
    """Returns the config fields of an operation, as a map from field to parameter."""
    first, *others = OPERATIONS[name].parameters
    return {name: first} | {f"{name}_{parameter}": parameter for parameter in others}


STRENGTHS: dict[str, Any] = {
    field: OPERATIONS[name].parameters[parameter]
    for name in OPERATIONS
    for field, parameter in strength_fields(name).items()
}
LARGEST = {
    "shear": 60.0,
    "stain": 1.0,
    "copy_paste_overlap": 1.0,
    "cutout": 1.0,
    "invert": 1.0,
    "shuffle_channels": 1.0,
    "greyscale": 1.0,
}


def make_augment(*, patch_size: int, policy: Sequence[str] = POLICY, **strengths: Any) -> Augment:
    """Returns an augmentation function.

    Operations that are not in the policy, or whose strength is their `off` value, are not compiled. A warning
    names other strengths that have no effect.
    Consecutive geometric operations form one warp, so pixels are interpolated only once.

    Args:
      patch_size: side of the result, the centre of the input. The last warp crops it; without geometric
        operations, cropping is the first step.
      policy: names of `OPERATIONS`, in order of application.
      **strengths: values that replace those of `STRENGTHS`:

        - scale: range of the magnification, log-uniform.
        - shear: maximum shear along the rows, degrees in either direction.
        - stretch: range of the ratio of vertical to horizontal magnification; preserves areas.
        - rotation: maximum rotation, degrees in either direction; 45 and `rot90` cover all angles.
        - rot90: whether to rotate by 0, 90, 180 or 270 degrees.
        - flip: whether to flip each axis with probability 0.5.
        - elastic: `(standard deviation, smoothness)` of a random displacement field, pixels.
        - copy_paste, copy_paste_overlap: see `copy_paste`.
        - stain: see `stain_jitter`.
        - glow, glow_radius, illumination, gamma, blur, contrast, brightness, noise: see `photometric`.
        - invert, shuffle_channels, greyscale: probability, see `segjax.data.augmentation.channels`.
        - cutout, cutout_count: see `cut_out`.

    Returns:
      A function `(key, example) -> example`. The examples are a `Batch` without B, with square maps of side
      `patch_size` in the result. The image is interpolated linearly, labels and semantic by nearest
      neighbour, targets as in `segjax.data.targets.RESAMPLING`. Beyond the border of the input, the image is
      reflected, `semantic` is `IGNORE` and there are no instances. To avoid this region, make the input
      larger than the patch by the factor `(cos(rotation) + sin(rotation)) / scale[0]`. Proposals are warped
      with the image.

    Raises:
      InputError: if an operation or strength is unknown, or a strength is out of range. The returned function
        raises it if the example is not square or is smaller than the patch.

    References:
      Ronneberger et al., U-Net, section 3.1 (https://arxiv.org/abs/1505.04597), for the elastic displacement.
    """
    names = _checked_policy(policy)
    settings = {**STRENGTHS, **_checked_strengths(strengths)}
    if names and (unused := _unused(names, settings)):
        fields = ", ".join(field for fields in unused.values() for field in fields)
        _warn_once(
            f"without effect in config.augment: {fields}, because the policy leaves out {', '.join(unused)};"
            f' to have them, give --config.augment.policy="{_with_operations(names, unused)}"'
        )
    names = tuple(name for name in names if not _is_off(name, settings[name]))
    stages = [
        (kind, list(members)) for kind, members in itertools.groupby(names, lambda n: OPERATIONS[n].kind)
    ]
    warps = [index for index, (kind, _) in enumerate(stages) if kind == "geometric"]

    def apply(name: str, key: Array, example: Batch) -> Batch:
        operation = OPERATIONS[name]
        assert operation.function is not None
        parameters = {parameter: settings[field] for field, parameter in strength_fields(name).items()}
        function = functools.partial(operation.function, jax.random.fold_in(key, operation.slot))
        if operation.kind == "example":
            return function(example, **parameters)
        arrays = cast(Mapping[str, Array], example)
        return {**example, "image": function(*(arrays[part] for part in operation.reads), **parameters)}

    def augment(key: Array, example: Batch) -> Batch:
        height, width = example["labels"].shape
        if height != width or height < patch_size:
            raise InputError(
                f"an example of {height} x {width} cannot give a patch of {patch_size} x {patch_size}"
            )
        warp_key, other_key = jax.random.split(key)
        if not warps:
            example = geometric.centre(example, patch_size)
        for index, (kind, members) in enumerate(stages):
            if kind == "geometric":
                size = patch_size if index == warps[-1] else None
                example = geometric.warp(warp_key, example, members, settings, size=size)
                continue
            before = photometric.intensity_range(example["image"]) if kind == "photometric" else None
            for name in members:
                example = apply(name, other_key, example)
            if before is not None:
                example = {**example, "image": photometric.restore_range(example["image"], *before)}
        return example

    return augment


def _checked_policy(policy: Sequence[str]) -> tuple[str, ...]:
    names = (policy,) if isinstance(policy, str) else tuple(policy)
    for name in names:
        if name not in OPERATIONS:
            raise InputError(
                f"policy has no operation {name!r}: choose among {', '.join(OPERATIONS)}", field="policy"
            )
        if names.count(name) > 1:
            raise InputError(f"policy names {name} twice: leave one of them out", field="policy")
    return names


def _checked_strengths(strengths: Strengths) -> Strengths:
    """Validates the strengths and returns them unchanged.

    Raises:
      InputError: if a strength is unknown or out of range.
    """
    for name, strength in strengths.items():
        if name not in STRENGTHS:
            raise InputError(f"{name} is unknown: choose among policy, {', '.join(STRENGTHS)}", field=name)
        default = STRENGTHS[name]
        rule = broken_rule(strength, tuple[float, float] if isinstance(default, tuple) else type(default))
        if rule is not None:
            raise InputError(f"{name} is {strength!r}; it must be {rule}", field=name)
        if name == "elastic":
            strength, smoothness = strength
            if smoothness <= 0:
                raise InputError(
                    f"elastic has the smoothness {smoothness}: give pixels above 0", field="elastic"
                )
        elif isinstance(default, tuple):
            low, high = strength
            if high < low or low < 0 or (low == 0 and name != "blur"):
                raise InputError(
                    f"{name} is ({low}, {high}): give the lower, positive bound first", field=name
                )
            continue
        if strength < 0:
            raise InputError(f"{name} is {strength}: it must not be negative, 0 switches it off", field=name)
        if strength > LARGEST.get(name, strength):
            raise InputError(f"{name} is {strength}: it must be at most {LARGEST[name]}", field=name)
    return strengths


def _unused(policy: Sequence[str], settings: Strengths) -> dict[str, list[str]]:
    """Returns the operations that are not in a policy, but have strengths that the defaults have not."""
    unused = {}
    for name in OPERATIONS:
        if name not in policy and not _is_off(name, settings[name]):
            changed = [field for field in strength_fields(name) if not _is_default(field, settings[field])]
            if changed:
                unused[name] = changed
    return unused


def _with_operations(policy: Sequence[str], added: Iterable[str]) -> tuple[str, ...]:
    """Returns a policy with more operations, each before those that follow it in `OPERATIONS`."""
    order, result = [*OPERATIONS], [*policy]
    for name in added:
        later = (place for place, other in enumerate(result) if order.index(other) > order.index(name))
        result.insert(next(later, len(result)), name)
    return tuple(result)


@functools.cache
def _warn_once(sentence: str) -> None:
    logging.warning("%s", sentence)


def _is_default(field: str, strength: Any) -> bool:
    return bool(STRENGTHS[field] == (tuple(strength) if isinstance(strength, list) else strength))


def _is_off(name: str, strength: Any) -> bool:
    if name == "elastic":  # without displacement, smoothness does not matter
        return strength[0] == 0
    return strength == OPERATIONS[name].off
