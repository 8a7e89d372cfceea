"""Makes the objects of a config, and trains, evaluates and predicts with them.

This is the lowest package that reads configs; everything below takes plain arguments.
"""
