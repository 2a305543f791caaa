"""Write the dashboards: ``python deploy/grafana/source [DIRECTORY] [--runbooks URL]``."""

import argparse
import json
import re
from pathlib import Path

from exporter_dashboard import EXPORTER
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from tasks_dashboard import TASKS


# What the SDK has no fields for.
ANNOTATION = {"titleFormat": "{{alertname}}", "textFormat": "{{account}} {{task_type}}", "step": "60s"}


def main(directory: Path, runbooks: str | None) -> None:
    """Write a file for each dashboard, named for its uid; `runbooks` adds links to its panels."""
    for dashboard in (TASKS, EXPORTER):
        document = json.loads(json.dumps(dashboard, cls=JSONEncoder))
        document["annotations"]["list"][0].update(ANNOTATION)
        for panel in document["panels"] if runbooks else ():
            names = re.findall(r"DataRobot[A-Z]\w+", panel.get("description", ""))
            panel["links"] = [{"title": name, "url": f"{runbooks}/{name}.md"} for name in names]
        text = json.dumps(document, indent=2, ensure_ascii=False)
        (directory / f"{document['uid']}.json").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the dashboards.")
    parser.add_argument("directory", nargs="?", type=Path, default=Path(__file__).parents[1] / "dashboards")
    parser.add_argument(
        "--runbooks", help="where deploy/runbooks is published; without it, panels have no links"
    )
    main(**vars(parser.parse_args()))
