"""Configs, installed as the package `segjax.configs`; `--config` accepts their names."""
