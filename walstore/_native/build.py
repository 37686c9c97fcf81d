"""Builds the extension module `walstore._native._walcore` (cffi API mode).

The cdef is walcore.h itself, less the preprocessor's lines, so the two cannot drift apart.
"""

from pathlib import Path

from cffi import FFI

HERE = Path("walstore/_native")
SOURCES = ["crc32c.c", "record.c", "files.c", "writer.c"]

header = (HERE / "walcore.h").read_text(encoding="utf-8")
declarations = "\n".join(line for line in header.splitlines() if not line.startswith("#"))

ffibuilder = FFI()
ffibuilder.cdef(declarations)
ffibuilder.set_source(
    "walstore._native._walcore",
    '#include "walcore.h"',
    sources=[str(HERE / name) for name in SOURCES],
    include_dirs=[str(HERE)],
    depends=[str(HERE / "walcore.h")],
    extra_compile_args=["-O2", "-std=gnu11", "-Wall", "-Wextra", "-UNDEBUG", "-pthread"],
    extra_link_args=["-pthread"],
)
