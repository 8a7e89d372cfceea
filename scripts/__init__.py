"""The commands. An installed segjax has them as `segjax.scripts`; `segjax train` runs `train.py`."""
