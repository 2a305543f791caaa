"""What `helm test` runs, in a pod of the exporter's image: is the exporter ready, and does it serve metrics?

Variables: EXPORTER, its URL; TELEMETRY_PATH; WAIT_SECONDS, how long to wait for it to be ready.
"""

# ruff: noqa: INP001 a script, no module of a package

import os
import sys
import time
import urllib.request


exporter = os.environ["EXPORTER"]
path = os.environ["TELEMETRY_PATH"]
deadline = time.monotonic() + float(os.environ["WAIT_SECONDS"])


def get(path: str) -> str:
    """Give what the exporter answers; where that is no success, wait or end."""
    while True:
        try:
            with urllib.request.urlopen(exporter + path, timeout=5) as response:  # noqa: S310 the chart's URL
                return response.read().decode()
        except OSError as error:
            if time.monotonic() > deadline:
                sys.exit(f"{exporter}{path}: {error}")
        time.sleep(1)


get("/-/ready")
if "\ndatarobot_exporter_build_info{" not in get(path):
    sys.exit(f"{exporter}{path} has no datarobot_exporter_build_info")
sys.stdout.write(f"{exporter} is ready and serves metrics at {path}\n")
