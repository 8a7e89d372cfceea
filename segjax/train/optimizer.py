"""AdamW or SGD under warm-up and cosine decay, with clipping, and nothing that is frozen touched."""

import jax
import optax

from segjax.errors import InputError
from segjax.typing import Params, PyTree

OPTIMIZERS = ("adamw", "sgd")


def make_optimizer(
    *,
    name: str,
    learning_rate: float,
    steps: int,
    warmup: int,
    end_lr_fraction: float,
    weight_decay: float,
    momentum: float,
    clip: float,
    frozen: PyTree,
) -> optax.GradientTransformation:
    """Makes the optimizer.

    Args:
      name: one of `OPTIMIZERS`.
      learning_rate: the peak, reached after warm-up.
      steps: of the whole run.
      warmup: steps over which the rate rises to it, the first of them not lost to a rate of zero.
      end_lr_fraction: of the peak, at the last step of the cosine.
      weight_decay: decoupled; on kernels only, not on biases, norms or anything frozen.
      momentum: of SGD, and Adam's first beta.
      clip: the global norm above which a gradient is scaled down; 0 turns it off.
      frozen: tree of bool like the parameters, True where they must not change.

    Returns:
      The transformation.

    Raises:
      InputError: if the name is unknown or `warmup` leaves no step for the decay.
    """
    if warmup >= steps:
        raise InputError(
            f"config.optimizer.warmup={warmup} must be smaller than config.steps={steps}: lower the first"
            " or raise the second"
        )
    schedule = optax.warmup_cosine_decay_schedule(
        learning_rate / (warmup + 1), learning_rate, warmup, steps, end_lr_fraction * learning_rate
    )

    def decayed(params: Params) -> PyTree:
        return jax.tree.map(lambda leaf, fixed: leaf.ndim > 1 and not fixed, params, frozen)

    if name == "adamw":
        descent = optax.adamw(schedule, b1=momentum, weight_decay=weight_decay, mask=decayed)
    elif name == "sgd":
        descent = optax.chain(
            optax.add_decayed_weights(weight_decay, mask=decayed),
            optax.sgd(schedule, momentum=momentum, nesterov=True),
        )
    else:
        raise InputError(f"config.optimizer.name={name!r} is unknown: choose one of {', '.join(OPTIMIZERS)}")
    held = optax.masked(optax.set_to_zero(), frozen)
    clipped = optax.clip_by_global_norm(clip) if clip > 0 else optax.identity()
    return optax.chain(held, clipped, descent, held)
