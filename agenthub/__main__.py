"""``python -m agenthub``: the same as ``agenthub`` on the command line."""

from agenthub.cli import main

if __name__ == "__main__":
    main(prog_name="agenthub")
