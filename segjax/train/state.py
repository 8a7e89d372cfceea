"""The training state and its digests."""

import dataclasses
import functools
import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

from segjax.typing import Array, Params, PyTree


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["step", "params", "ema_params", "optimizer", "skipped", "consecutive_skips"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class State:
    """The state of a training run.

    Attributes:
      step: [] int32, number of steps, including skipped ones.
      params: the trained parameters.
      ema_params: exponential moving average of `params`, or None.
      optimizer: state of the optimizer.
      skipped: [] int32, number of steps whose gradient was not finite and was not applied.
      consecutive_skips: [] int32, number of skipped steps since the last step that was applied.
    """

    step: Array
    params: Params
    ema_params: Params | None
    optimizer: PyTree
    skipped: Array
    consecutive_skips: Array

    @property
    def eval_params(self) -> Params:
        """The parameters for evaluation: the moving average if there is one."""
        return self.params if self.ema_params is None else self.ema_params


def make_state(params: Params, optimizer: optax.GradientTransformation, *, keep_ema: bool) -> State:
    """Returns the state before the first step."""
    ema = jax.tree.map(jnp.copy, params) if keep_ema else None
    zero = functools.partial(jnp.zeros, (), jnp.int32)
    return State(zero(), params, ema, optimizer.init(params), zero(), zero())


def digests(tree: PyTree) -> dict[str, str]:
    """Returns the sha256 of the values, shape and dtype of each leaf, by its path."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): _digest(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def fingerprint(tree: PyTree) -> str:
    """Returns the sha256 of a tree; it changes with any bit of any leaf."""
    lines = "".join(f"{path} {digest}\n" for path, digest in sorted(digests(tree).items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _digest(leaf: Array) -> str:
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        from jax.experimental import multihost_utils

        leaf = multihost_utils.process_allgather(leaf, tiled=True)
    value = np.asarray(leaf)
    header = f"{value.shape} {value.dtype} ".encode()
    return hashlib.sha256(header + np.ascontiguousarray(value).tobytes()).hexdigest()
