"""The `tuner` command, also as `python -m tuner`. From its start, Ctrl-C ends it without traceback.

It must import nothing of `tuner` before the signal handler is set.
"""

import os
import sys

_INTERRUPTED = 130


def main() -> None:
    """Loads the command line and runs it. Until then, Ctrl-C ends the process at once."""
    import signal

    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:  # otherwise Ctrl-C is ignored, as in the background
        signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))
    from tuner.cli.main import main as command

    command(on_interrupt=handler)


if __name__ == "__main__":
    if not sys.flags.safe_path:  # otherwise files in the current folder replace Python's modules
        sys.path.append(sys.path.pop(0))
    main()
