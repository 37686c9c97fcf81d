"""What `import walstore` gives is what the modules mean to give."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import sys

import pytest

import walstore
from tests.helpers import ROOT
from walstore import errors

INIT = ROOT / "walstore" / "__init__.py"


def exporting_modules() -> set[str]:
    """The modules that the package takes its names from."""
    tree = ast.parse(INIT.read_text(encoding="utf-8"))
    return {node.module for node in tree.body if isinstance(node, ast.ImportFrom) and node.module}


def test_all_is_what_is_imported() -> None:
    tree = ast.parse(INIT.read_text(encoding="utf-8"))
    imported = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(walstore.__all__) == imported
    assert len(walstore.__all__) == len(set(walstore.__all__))
    assert all(hasattr(walstore, name) for name in walstore.__all__)


def test_every_error_is_exported() -> None:
    assert set(errors.__all__) <= set(walstore.__all__)
    tree = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.WALStoreError)
    }
    assert tree == set(errors.__all__)


def test_each_export_is_public_in_its_module() -> None:
    for module_name in exporting_modules():
        module = importlib.import_module(module_name)
        for name in walstore.__all__:
            value = getattr(walstore, name)
            if getattr(value, "__module__", None) == module_name:
                assert name in module.__all__, f"{name} is not in {module_name}.__all__"


def wal_modules() -> list[str]:
    import walstore.wal as package

    return [info.name for info in pkgutil.iter_modules(package.__path__, "walstore.wal.")]


@pytest.mark.parametrize("name", [*wal_modules(), "walstore.errors", "walstore.limits"])
def test_all_names_exist_and_are_sorted_out(name: str) -> None:
    module = importlib.import_module(name)
    assert hasattr(module, "__all__"), f"{name} has no __all__"
    assert all(hasattr(module, public) for public in module.__all__)
    assert not any(public.startswith("_") for public in module.__all__)


def test_types_of_public_results_are_exported() -> None:
    """What a public method returns or raises can be named without reaching inside."""
    source = inspect.getsource(walstore.FileWALManager)
    raised = set(re.findall(r"\b([A-Z][A-Za-z]+Error)\b", source)) - {"OSError", "MemoryError"}
    known = set(walstore.__all__) | set(dir(sys.modules["builtins"]))
    assert raised <= known | {"TimeoutError"}
    for name in ("Commit", "Tail", "WALEntry", "VerifyReport", "Problem", "LogStats"):
        assert name in walstore.__all__


def test_version_is_that_of_the_package() -> None:
    from importlib.metadata import version

    assert walstore.__version__ == version("walstore")


def test_what_one_module_takes_from_another_is_exported() -> None:
    """The names that the package's own modules take from each other, its C part aside."""
    taken = 0
    missing = []
    for path in sorted((ROOT / "walstore").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not node.module:
                continue
            module = importlib.import_module(node.module)
            if not node.module.startswith("walstore.") or not hasattr(module, "__all__"):
                continue
            names = {alias.name for alias in node.names}
            folder = ROOT.joinpath(*node.module.split("."))
            names -= {name for name in names if (folder / f"{name}.py").exists()}
            taken += len(names)
            missing += [f"{node.module}.{name}" for name in names - set(module.__all__)]
    print(f"taken={taken}")
    assert taken >= 350
    assert sorted(set(missing)) == []
