"""The commands. Each file has one command: it parses, makes one library call and prints.

Must not contain logic that a Python program would need too: that belongs in `tuner.api` or below.
Start at `main`.
"""
