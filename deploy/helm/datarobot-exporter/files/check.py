"""What `helm test` runs, in a pod of the exporter's image: is each exporter ready, and does it serve metrics?

Variables: EXPORTERS, their URLs; TELEMETRY_PATH; WAIT_SECONDS, how long to wait for all of them to be ready.
"""

# ruff: noqa: INP001 a script, no module of a package

import os
import ssl
import sys
import time
import urllib.error
import urllib.request


path = os.environ["TELEMETRY_PATH"]
deadline = time.monotonic() + float(os.environ["WAIT_SECONDS"])

# Nothing secret is sent, and whose certificate it is, Prometheus verifies.
unverified = ssl.create_default_context()
unverified.check_hostname = False
unverified.verify_mode = ssl.CERT_NONE


def get(url: str) -> str | None:
    """Give what an exporter answers, None where it asks who we are; where it is an error, wait or end."""
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5, context=unverified) as response:  # noqa: S310 ours
                return response.read().decode()
        except OSError as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
                if error.code == 401:  # noqa: PLR2004 Unauthorized
                    return None
            if time.monotonic() > deadline:
                sys.exit(f"{url}: {error}")
        time.sleep(1)


for exporter in os.environ["EXPORTERS"].split():
    get(f"{exporter}/-/ready")
    metrics = get(exporter + path)
    if metrics is None:
        sys.stdout.write(f"{exporter} is ready and asks for a password at {path}\n")
    elif "\ndatarobot_exporter_build_info{" in metrics:
        sys.stdout.write(f"{exporter} is ready and serves metrics at {path}\n")
    else:
        sys.exit(f"{exporter}{path} has no datarobot_exporter_build_info")
