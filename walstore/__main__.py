"""`python -m walstore`, the same as the command `walstore`."""

from walstore.cli import main

if __name__ == "__main__":
    main()
