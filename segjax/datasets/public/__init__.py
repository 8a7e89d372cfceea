"""The public data sets, one builder each."""
