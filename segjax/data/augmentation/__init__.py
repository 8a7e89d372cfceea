"""Likenesses of training examples, made on the device: `policy` puts together what the others do."""
