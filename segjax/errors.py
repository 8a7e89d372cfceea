"""Exceptions whose message is written for the person at the terminal."""


class InputError(ValueError):
    """Something the user gave cannot be used: a config field, a file, a folder, a checkpoint.

    The message is one sentence that names the file or the field and the way out. Scripts print it without
    a traceback and exit with code 2; as a library, catch it like any ValueError.
    """


class Interrupted(Exception):  # noqa: N818 - it is no error
    """A run was asked to stop, and has saved where it stands."""
