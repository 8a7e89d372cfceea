"""`python -m segjax` is the command `segjax`."""

from segjax.cli import main

if __name__ == "__main__":
    main()
