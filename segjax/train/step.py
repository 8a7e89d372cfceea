"""The training step: augment, differentiate, update, guard."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from segjax.tasks import Task
from segjax.train.sharding import batch_sharding, replicated, state_sharding
from segjax.train.state import State
from segjax.typing import Array, Batch, Params, PyTree

Step = Callable[[State, Batch, Array], tuple[State, Mapping[str, Array]]]
Augment = Callable[[Array, Batch], Batch]


def make_step(
    task: Task,
    optimizer: optax.GradientTransformation,
    augment: Augment,
    *,
    mesh: Mesh,
    state: PyTree,
    ema_decay: float = 0.0,
    accumulate: int = 1,
) -> Step:
    """Makes the jit-compiled step `(state, batch, key) -> (state, log)`; the old state's buffers are reused.

    Args:
      task: gives the loss.
      optimizer: from `make_optimizer`.
      augment: `(key, example) -> example`, applied to each example with a key of its own.
      mesh: from `make_mesh`.
      state: the state, or its shapes: tells how to shard it.
      ema_decay: of the moving average of the parameters, if the state keeps one.
      accumulate: microbatches whose gradients are averaged, to fit a large batch in memory.

    Returns:
      The step. Its key is the run's: every step folds its own number into it.
    """

    def loss(params: Params, batch: Batch, key: Array) -> tuple[Array, Mapping[str, Array]]:
        total, terms = task.loss(params, batch, key)
        return total, {"loss": total, **terms}

    def gradient(params: Params, batch: Batch, key: Array) -> tuple[Mapping[str, Array], Params]:
        (_, terms), grads = jax.value_and_grad(loss, has_aux=True)(params, batch, key)
        return terms, grads

    def accumulated(params: Params, batch: Batch, key: Array) -> tuple[Mapping[str, Array], Params]:
        if accumulate == 1:
            return gradient(params, batch, key)
        # Rows are dealt out in turn, so that each device keeps the rows it has.
        parts = jax.tree.map(lambda x: x.reshape(-1, accumulate, *x.shape[1:]).swapaxes(0, 1), batch)
        keys = jax.random.split(key, accumulate)
        sums = jax.lax.map(lambda part: gradient(params, *part), (parts, keys))
        return jax.tree.map(lambda x: x.mean(0), sums)

    def step(state: State, batch: Batch, key: Array) -> tuple[State, Mapping[str, Array]]:
        of_augment, of_loss = jax.random.split(jax.random.fold_in(key, state.step))
        batch = jax.vmap(augment)(jax.random.split(of_augment, len(batch["image"])), batch)
        log, grads = accumulated(state.params, batch, of_loss)
        norm = optax.tree.norm(grads)
        updates, optimizer_state = optimizer.update(grads, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        # Early on, the average follows closely: the first parameters are no better than noise.
        decay = jnp.minimum(ema_decay, (1 + state.step) / (10 + state.step))
        average = (
            jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, state.ema_params, params)
            if state.ema_params is not None
            else None
        )
        finite = jnp.isfinite(norm) & jnp.isfinite(log["loss"])
        proposed = (params, average, optimizer_state)
        kept = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old),
            proposed,
            (state.params, state.ema_params, state.optimizer),
        )
        skipped = 1 - finite.astype(jnp.int32)
        in_row = (state.consecutive_skips + 1) * skipped
        state = State(state.step + 1, kept[0], kept[1], kept[2], state.skipped + skipped, in_row)
        counts = {"skipped": state.skipped, "consecutive_skips": state.consecutive_skips}
        return state, {**log, "gradient_norm": norm, **counts}

    held, whole = state_sharding(mesh, state), replicated(mesh)
    return jax.jit(
        step,
        in_shardings=(held, batch_sharding(mesh), whole),
        out_shardings=(held, whole),
        donate_argnums=0,
    )
