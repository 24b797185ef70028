"""The model registry: versions, the champion, and what a promotion writes.

Judges nothing. Start at `publication.publish`, `versions.crown`, which moves the alias,
`champion.load_champion` and `classification`.
"""
