"""Writes segmentations to files that other programs open, one module for each format.

Each module has a function `(cells, path)`, which writes the `Cells` of one image atomically.
"""
