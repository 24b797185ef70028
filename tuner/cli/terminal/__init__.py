"""What the commands share: tables, the live view, options, signals, suggested next commands."""
