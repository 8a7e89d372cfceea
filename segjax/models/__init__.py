"""Neural networks. Only this package imports flax; its models have `init` and `apply`."""
