"""The C helper, loaded. The only module that imports the extension."""

from walstore._native._walcore import ffi, lib

lib.walcore_crc32c_init()

__all__ = ["ffi", "lib"]
