"""Makes tests of networks quick: they run everything once, so what takes the time is to compile."""

import functools

import jax
import numpy as np

# Without optimisation, in a fifth of the time.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def random_variables(module, *arguments, seed: int = 0):
    """As from `module.init`, but by NumPy: nothing to compile."""
    return random_params(jax.eval_shape(module.init, jax.random.key(0), *arguments), seed=seed)


def random_params(shapes, *, seed: int = 0):
    """Parameters of given shapes. Norms begin as the identity."""
    rng = np.random.default_rng(seed)

    def value(path, leaf):
        if len(leaf.shape) > 1:
            deviation = np.sqrt(2 / np.prod(leaf.shape[:-1]))
            return (rng.standard_normal(leaf.shape) * deviation).astype(np.float32)
        return np.full(leaf.shape, path[-1].key in ("scale", "var"), np.float32)

    return jax.tree_util.tree_map_with_path(value, shapes)
