"""What pyproject.toml cannot say: the C extension, and one sentence when it cannot be built."""

from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, ExecError, PlatformError


class BuildNative(build_ext):
    """Says what to install when there is no compiler."""

    def run(self) -> None:
        try:
            super().run()
        except (CompileError, ExecError, PlatformError, FileNotFoundError) as error:
            raise SystemExit(
                "walstore needs a C compiler and Python's headers to build its helper: on Debian "
                f"'apt install gcc python3-dev', on macOS 'xcode-select --install'. ({error})"
            ) from error


setup(
    cffi_modules=["walstore/_native/build.py:ffibuilder"],
    cmdclass={"build_ext": BuildNative},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
