"""What the commands share: runs, the live view, signals, tables, options, next commands."""
