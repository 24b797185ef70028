"""`tuner datasets`: lists the known data sets."""

from tuner.cli.terminal.terminal_tables import print_table


def datasets() -> None:
    """List the known data sets."""
    from tuner.datasets.known_datasets import names

    print_table(["data set", ""], names().items())
