"""End the program on systems without file locks. Import this before runs.directory."""

import sys

try:
    import fcntl  # noqa: F401  # tests whether the system has it
except ImportError:
    print(
        f"cnnbench: {sys.platform} is not supported. "
        "Use Linux, macOS, or on Windows the Windows Subsystem for Linux (WSL).",
        file=sys.stderr,
    )
    raise SystemExit(2) from None
