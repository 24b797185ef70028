"""The model registry: versions, the champion, and what is written when one is made.

Judges nothing. Start at `publication.publish` and `champion.load_champion`.
"""
