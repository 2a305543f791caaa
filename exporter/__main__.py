"""Entry point of the program.

Signals that arrive while the rest is imported are kept until somebody takes them: a process that is asked to
stop or to reload in its first moments must neither die of it nor miss it.
"""

import signal
from typing import Final


EARLY_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main() -> None:
    """Run the command line and exit with 0, 1 or 2."""
    signal.pthread_sigmask(signal.SIG_BLOCK, EARLY_SIGNALS)
    from exporter.cli import main as run  # noqa: PLC0415 after the signals are blocked

    run()


if __name__ == "__main__":
    main()
