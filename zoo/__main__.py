"""`python -m zoo`: the command line, for launchers that start modules."""

from zoo.cli import main

if __name__ == "__main__":
    main()
