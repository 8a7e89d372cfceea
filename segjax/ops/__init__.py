"""Pure jax.numpy functions of a single example; callers vmap over the batch."""
