"""Functions, named so that another process finds them.

The lab runs the functions of a test in a process of its own, which imports the test's module. So
they are sent as pickle sends functions, by module and name, with what functools.partial adds.
"""

from __future__ import annotations

import base64
import functools
import importlib.util
import pickle
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from typing import Any

from walstore.testing.errors import CrashLabError

Function = Callable[..., Any]


def send(*functions: Function) -> dict[str, Any]:
    """Names functions, as JSON, for a process that `receive`s them.

    Raises:
        CrashLabError: one of them is local to another function, a lambda, or otherwise nameless.
    """
    __tracebackhide__ = True  # of pytest: the sentence is all there is to see
    for function in functions:
        try:
            pickle.dumps(function)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise CrashLabError(
                "the crash lab runs workload and check in a process of its own, which finds only "
                f"functions at the top of a module: move {name_of(function)} there, and pass what "
                f"it needs with functools.partial ({error})"
            ) from None
    files = {}
    for function in functions:
        name = getattr(bare(function), "__module__", "")
        files[name] = getattr(sys.modules.get(name), "__file__", None)
    return {
        "pickle": base64.b64encode(pickle.dumps(functions)).decode(),
        "files": files,
        "sys_path": sys.path,
    }


def receive(sent: dict[str, Any]) -> tuple[Function, ...]:
    """The functions that another process has sent."""
    sys.path[:] = sent["sys_path"]
    for name, file in sent["files"].items():
        if file and not is_importable(name, file):
            import_from(name, file)
    functions: tuple[Function, ...] = pickle.loads(base64.b64decode(sent["pickle"]))
    return functions


def bare(function: Function) -> Function:
    """What functools.partial wraps, if it does."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def name_of(function: Function) -> str:
    return getattr(bare(function), "__qualname__", repr(function))


def is_importable(name: str, file: str) -> bool:
    """Whether `import name` gives this file; pytest can import files that have no such name."""
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return False
    return spec is not None and spec.origin == file


def import_from(name: str, file: str) -> None:
    spec: ModuleSpec | None = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise CrashLabError(f"{file} cannot be imported as {name}")
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
