"""The configs. An installed segjax has them as `segjax.configs`; `--config` takes their names."""
