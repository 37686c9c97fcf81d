"""README's code runs, and what it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import walstore

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_first_example_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = re.findall(r"```python\n(from walstore import.*?)```", README, re.S)
    assert len(example) == 1
    monkeypatch.chdir(tmp_path)
    exec(compile(example[0], "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == 'b\'{"id": 1, "total": 20}\''
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "3", "4", "5"]


def test_every_call_the_readme_lists_exists() -> None:
    block = README.split("## The calls")[1].split("```")[1]
    names = set(re.findall(r"wal\.(\w+)", block))
    assert len(names) >= 15
    assert not [name for name in names if not hasattr(walstore.FileWALManager, name)]


def test_links_of_the_documents_lead_somewhere() -> None:
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    links = [
        (document, link)
        for document in documents
        for link in re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8"))
        if "://" not in link
    ]
    assert len(links) >= 5
    assert not [link for document, link in links if not (document.parent / link).exists()]


def test_readme_gives_the_two_commands() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in ("demo", "test"):
        assert f"make {command} " in README
        assert re.search(rf"^{command}:", makefile, re.M)
