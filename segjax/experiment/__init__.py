"""From a config to the objects it describes, and what people do with them: train, evaluate, predict.

This is the one place in segjax that reads a config; everything below takes plain arguments.
"""
