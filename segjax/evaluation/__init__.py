"""Runs a method on a split and scores it against the ground truth."""
