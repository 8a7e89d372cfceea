"""Changes layers of networks while they are traced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from segjax.models.norms import FrozenBatchNorm, standardise, standardised_convolution
from segjax.typing import Array, Outputs, Params


@contextmanager
def around_convolutions(function: Callable[[Array], Array]) -> Iterator[None]:
    """Applies a function to the input and output [B, H, W, C] of each convolution that is traced within."""

    def call_between(
        call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], context: Any
    ) -> Any:
        is_convolution = isinstance(context.module, nn.Conv) and context.method_name == "__call__"
        if not is_convolution or args[0].ndim != 4:
            return call(*args, **kwargs)
        return function(call(function(args[0]), *args[1:], **kwargs))

    with nn.intercept_methods(call_between):
        yield


@contextmanager
def folded_norms() -> Iterator[None]:
    """Makes each `FrozenBatchNorm` that is traced within a product and a sum with constants.

    The parameters must be arrays, not arguments of the traced function.
    """

    def fold(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], context: Any) -> Any:
        module = context.module
        if not isinstance(module, FrozenBatchNorm):
            return call(*args, **kwargs)
        names = ("scale", "bias", "mean", "var")
        vectors: dict[str, np.ndarray] = {
            name: np.asarray(module.get_variable("params", name)).reshape(1, 1, 1, -1) for name in names
        }
        factor = vectors["scale"] / np.sqrt(vectors["var"] + np.float32(module.epsilon))
        return args[0] * factor + (vectors["bias"] - vectors["mean"] * factor)

    with nn.intercept_methods(fold):
        yield


def standardised_params(
    predict: Callable[[Params, Array], Outputs], params: Params, images: jax.ShapeDtypeStruct
) -> Params:
    """Returns parameters in which each kernel is as `standardised_convolution` uses it.

    The outputs stay the same, because a kernel that is standardised twice does not change. This is for
    converters that read the kernel of a convolution and do not call its function.

    Args:
      predict: `(params, images) -> outputs`.
      params: parameters of the network.
      images: shape and type of the images.
    """
    paths = set()

    def note(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], context: Any) -> Any:
        module = context.module
        if isinstance(module, nn.Conv) and module.conv_general_dilated is standardised_convolution:
            paths.add(module.path)
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        jax.eval_shape(predict, params, images)

    def replace(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        *module, name = (entry.key for entry in path)
        return standardise(leaf) if name == "kernel" and tuple(module) in paths else leaf

    return jax.tree_util.tree_map_with_path(replace, params)
