"""What readers say of annotations that are invalid."""

from segjax.errors import InputError


def fault(read, *arguments, **options):
    """Returns the error of the file, or else of the only entry that `read` leaves out."""
    try:
        drawing = read(*arguments, **options)
    except InputError as error:
        return str(error)
    (message,) = drawing.invalid
    return message
