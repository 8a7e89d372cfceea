"""Exceptions whose message is written for the person at the terminal."""


class InputError(ValueError):
    """Invalid user input: a config field, a file, a folder or a checkpoint.

    The message is one sentence that names the file or field and how to fix it. Scripts print it without
    a traceback and exit with code 2; as a library, catch it like any ValueError.
    """


class Interrupted(Exception):  # noqa: N818 - not an error
    """A run was asked to stop and has saved its state."""
