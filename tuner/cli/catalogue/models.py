"""`tuner models`: lists the known models."""

from tuner.cli.terminal.terminal_tables import params, print_table


def models() -> None:
    """List the known models with their hyperparameters."""
    from tuner.models.known_models import BUILTIN, GROUP, hyperparameters
    from tuner.references import known_names

    rows = [
        (
            name,
            params(
                {
                    key: "required" if value is None else value
                    for key, value in hyperparameters(name).items()
                }
            ),
        )
        for name in BUILTIN
    ]
    rows += [
        (name, "registered by an installed package")
        for name in known_names(BUILTIN, GROUP)
        if name not in BUILTIN
    ]
    print_table(["model", "hyperparameters and defaults"], rows)
