"""The command line, as ``python -m aggregator``."""

from aggregator.command_line import main

main.main()
