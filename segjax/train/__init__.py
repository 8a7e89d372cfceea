"""One loop for every task: state, optimizer, sharding, step, checkpoints, log."""
