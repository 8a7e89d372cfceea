"""Makes the objects of a config, and trains, evaluates and predicts with them.

This is the one place in segjax that reads a config; everything below takes plain arguments.
"""
