"""What commands share: tables, the live view, options, signals, and commands to type next."""
