"""The `tuner` command, also as `python -m tuner`; Ctrl-C ends it quietly from its first moment on.

Imports nothing of `tuner` before that holds.
"""

import os
import sys

_INTERRUPTED = 130


def main() -> None:
    """Loads the command line and runs it; until then there is nothing to clear up."""
    import signal

    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:  # else Ctrl-C is ignored, as in the background
        signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))
    from tuner.cli.main import main as command

    command(on_interrupt=handler)


if __name__ == "__main__":
    if not sys.flags.safe_path:  # else the working folder's files would be Python's own modules
        sys.path.append(sys.path.pop(0))
    main()
