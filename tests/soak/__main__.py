"""Entry point of `python tests/soak`."""

import signal
import sys
from pathlib import Path


if __name__ == "__main__":
    sys.path.insert(1, str(Path(__file__).parents[1]))
    from soak_run import main

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
