"""The commands: each file parses, makes one library call and prints."""
