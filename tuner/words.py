"""Numbers in messages: how many of what, and how long, as every sentence has them."""


def count(number: int, one: str, many: str = "") -> str:
    """How many, with the noun in the number that fits: `1 trial`, `6 trials`, `1,797 images`."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def seconds(value: float) -> str:
    """A short time: one decimal from a second on, else two digits, so that none reads as zero."""
    return f"{value:.1f} s" if value >= 1 else f"{value:.2g} s"
