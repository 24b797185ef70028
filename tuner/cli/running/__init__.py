"""Commands that run a study or steer its drivers."""
