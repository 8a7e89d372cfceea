"""Networks. Only this package imports flax; what it creates has `init` and `apply`."""
