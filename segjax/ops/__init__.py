"""Pure jax.numpy functions of one example; vmap at the caller."""
