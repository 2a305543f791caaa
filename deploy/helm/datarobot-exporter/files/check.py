"""What `helm test` runs, in a pod of the exporter's image: is each exporter ready, and does it serve metrics?

Variables: EXPORTERS, their URLs; TELEMETRY_PATH; WAIT_SECONDS, how long to wait for all of them to be ready.
"""

# ruff: noqa: INP001 a script, no module of a package

import os
import sys
import time
import urllib.request


path = os.environ["TELEMETRY_PATH"]
deadline = time.monotonic() + float(os.environ["WAIT_SECONDS"])


def get(url: str) -> str:
    """Give what an exporter answers; where that is no success, wait or end."""
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 the chart's URL
                return response.read().decode()
        except OSError as error:
            if time.monotonic() > deadline:
                sys.exit(f"{url}: {error}")
        time.sleep(1)


for exporter in os.environ["EXPORTERS"].split():
    get(f"{exporter}/-/ready")
    if "\ndatarobot_exporter_build_info{" not in get(exporter + path):
        sys.exit(f"{exporter}{path} has no datarobot_exporter_build_info")
    sys.stdout.write(f"{exporter} is ready and serves metrics at {path}\n")
