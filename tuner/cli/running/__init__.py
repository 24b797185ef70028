"""Commands that run, watch, pause, resume and stop studies."""
