"""Segments images that do not fit into memory: tile by tile, joined at the seams, written while read.

`pipeline` segments the tiles of a `grid` and stores them, `stitching` joins their cells, and `files` writes
what `composition` makes of both.
"""
