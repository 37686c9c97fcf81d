"""The example of docs/crash-lab.md fails as it says there, and passes when it is repaired."""

from __future__ import annotations

import re
from pathlib import Path

from tests.helpers import ROOT

from .test_plugin import run_pytest

PAGE = (ROOT / "docs" / "crash-lab.md").read_text(encoding="utf-8")


def test_example_finds_its_bug_and_passes_when_repaired(tmp_path: Path) -> None:
    store, test, method = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    (tmp_path / "test_settings.py").write_text(test)
    (tmp_path / "settings.py").write_text(store)
    broken = run_pytest(tmp_path, "test_settings.py", cwd=tmp_path)
    assert "FAILED test_settings.py::test_settings_survive_power_cuts" in broken.stdout
    shown = PAGE.split("```\nE ")[1].splitlines()
    for line in (shown[1], shown[2], shown[6], shown[8]):
        words = line.removeprefix("E").split("(")[0].strip()
        assert words in broken.stdout, broken.stdout
    start = store.index("    def put")
    (tmp_path / "settings.py").write_text(store[:start] + method)
    repaired = run_pytest(tmp_path, "test_settings.py", cwd=tmp_path)
    assert repaired.returncode == 0, repaired.stdout
    for line in ("os.fsync(file.fileno())", "os.fsync(directory)"):
        assert line in method
        (tmp_path / "settings.py").write_text(store[:start] + method.replace(line, "pass"))
        again = run_pytest(tmp_path, "-k", "power_cuts", "test_settings.py", cwd=tmp_path)
        assert again.returncode == 1, again.stdout
