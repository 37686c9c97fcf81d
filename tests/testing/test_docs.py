"""The examples of docs/crash-lab.md fail as it says there, and pass when they are repaired."""

from __future__ import annotations

import re
from pathlib import Path

from tests.helpers import ROOT

from .test_plugin import run_pytest

PAGE = (ROOT / "docs" / "crash-lab.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_example_finds_its_bug_and_passes_when_repaired(tmp_path: Path) -> None:
    store, test, method, _ = BLOCKS
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


def test_example_of_a_partition_loses_what_was_acked_by_one_node(tmp_path: Path) -> None:
    test = tmp_path / "test_failover.py"
    test.write_text(BLOCKS[-1])
    broken = run_pytest(tmp_path, test.name, cwd=tmp_path)
    shown = PAGE.rsplit("```\nE ")[-1].splitlines()
    assert shown[0].strip() in broken.stdout, broken.stdout
    assert "a-b: nothing reaches b or a" in shown[1]
    assert shown[1].rpartition(" s: ")[2] in broken.stdout, broken.stdout
    assert BLOCKS[-1].count('acks="async"') == 1
    test.write_text(BLOCKS[-1].replace('acks="async"', 'acks="quorum"'))
    mended = run_pytest(tmp_path, test.name, cwd=tmp_path)
    assert mended.returncode == 0, mended.stdout
