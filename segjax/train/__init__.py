"""One loop for every task: state, optimizer, sharding, step, checkpoint, log, evaluation."""
