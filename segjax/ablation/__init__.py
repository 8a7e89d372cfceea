"""Sweeps of any config: their points, runs in a folder that several processes share, and the comparison."""
