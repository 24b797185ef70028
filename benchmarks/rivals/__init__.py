"""The sweep that `tuner` runs, as people write it today: one script a tool, read it as such.

Every script trains the paper's network on arrays that are ready to use, searches the same
space for the same number of trials and epochs, never stops a trial early, and prints the best
validation accuracy as JSON. A script is measured from the start of its process to its exit.
"""
