"""`tuner datasets`: what a study file may name as its data set."""

from tuner.cli.terminal.terminal_tables import print_table


def datasets() -> None:
    """List the data sets that studies can name."""
    from tuner.datasets.known_datasets import names

    print_table(["data set", ""], names().items())
