"""Disks that damage what lies on them."""

from pathlib import Path


def damage(folder: Path, kind: str) -> None:
    """Zeroes eight bytes in the middle of a spool's first line of that kind."""
    spool = folder / "spool.jsonl"
    content = bytearray(spool.read_bytes())
    middle = content.index(f'{{"kind": "{kind}"'.encode()) + 40
    content[middle : middle + 8] = bytes(8)
    spool.write_bytes(content)
