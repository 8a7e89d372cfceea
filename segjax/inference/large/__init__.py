"""Segments images that do not fit into memory, tile by tile.

`pipeline` segments the tiles of a `grid` and stores them, `stitching` joins the cells at the seams,
`composition` reads the joined cells of any window, and `files` writes them part by part.
"""
