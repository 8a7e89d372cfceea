"""Applies trained networks to images of any size, and writes the results to files."""
