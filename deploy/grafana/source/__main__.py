"""Write the dashboards: ``python deploy/grafana/source [DIRECTORY]``."""

import json
import sys
from pathlib import Path

from exporter_dashboard import EXPORTER
from tasks_dashboard import TASKS


def main(directory: Path) -> None:
    """Write one file for each dashboard, named for its uid."""
    for dashboard in (TASKS, EXPORTER):
        text = json.dumps(dashboard, indent=2, ensure_ascii=False)
        (directory / f"{dashboard['uid']}.json").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parent.parent / "dashboards")
