"""Version and build."""

import platform
from pathlib import Path

from exporter.version import VERSION, Build, about, read_build


def test_the_build_is_read_from_the_file_that_builds_add(tmp_path: Path) -> None:
    path = tmp_path / "build.json"
    assert read_build(path) == Build("", "")
    path.write_text('{"revision": "3f9c2d1", "date": "2026-11-26T12:00:00+00:00"}\n')
    assert read_build(path) == Build("3f9c2d1", "2026-11-26T12:00:00+00:00")


def test_each_fact_has_its_line() -> None:
    assert about(Build("3f9c2d1", "2026-11-26T12:00:00+00:00")).splitlines() == [
        f"datarobot-exporter, version {VERSION}",
        "  revision: 3f9c2d1",
        "  build date: 2026-11-26T12:00:00+00:00",
        f"  python: {platform.python_version()}",
    ]
    assert "  revision: unknown\n  build date: unknown\n" in about(Build())
