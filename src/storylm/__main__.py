"""`python -m storylm` is `storylm`."""

from storylm.cli import main

if __name__ == "__main__":
    main()
