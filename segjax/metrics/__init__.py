"""Evaluation metrics: counts of one image that add up to those of a data set, and scores of these counts."""
