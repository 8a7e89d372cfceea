"""Commands, installed as the package `segjax.scripts`; `segjax train` runs `train.py`."""
