"""C++ of this package, compiled for this very processor when first used and kept in the cache.

Plain functions on pointers, so that compiling takes seconds and needs a compiler but none of torch's headers.
Where there is no compiler the callers do without: everything has a path in PyTorch too.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
from functools import cache
from itertools import product
from pathlib import Path

from storylm.config.files import atomic_file, cache_folder

FLAGS = ("-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
TARGETS = ("-march=native", "-mcpu=native")  # the second: Apple's and other compilers for ARM
# OpenMP's functions are found in the library that torch has loaded, so that both share one pool of threads. Apple's
# compiler has none of them: there one thread does the work.
THREADS = ("-fopenmp", "-fopenmp-simd")
log = logging.getLogger("storylm.native")
HERE = Path(__file__).parent
SECONDS = 600  # a compiler that takes longer is not coming back; it is some seconds where nothing else runs


def compiler() -> list[str] | None:
    """The command of a C++ compiler: `CXX`, as "ccache g++", or what the system has; None where there is none."""
    candidates = [shlex.split(os.environ.get("CXX", "")), ["c++"], ["g++"], ["clang++"]]
    return next(([found, *rest] for name, *rest in filter(None, candidates) if (found := shutil.which(name))), None)


@cache
def library(folder: Path = HERE) -> ctypes.CDLL | None:
    """The functions of a folder's .cpp files, which may include this one's headers.

    None where they cannot be had, which is logged, or `STORYLM_NATIVE` is 0.
    """
    if os.environ.get("STORYLM_NATIVE") == "0":
        return None
    program = compiler()
    if os.name == "nt" or program is None:
        _log_missing("this system has no C++ compiler that storylm knows")
        return None
    for chosen in product(THREADS, TARGETS):
        command = [*program, *FLAGS, *chosen, f"-I{HERE}", *map(str, sorted(folder.glob("*.cpp")))]
        built = cache_folder() / "native" / f"{folder.parent.name}-{_fingerprint(program, chosen, folder)}.so"
        try:
            if not built.exists():
                with atomic_file(built) as temporary:
                    command += ["-o", str(temporary)]
                    subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
            return ctypes.CDLL(str(built))
        except (OSError, subprocess.SubprocessError):
            continue
    _log_missing(f"{program[0]} does not compile storylm's C++")
    return None


@cache
def _log_missing(why: str) -> None:
    """Once, however many folders there are."""
    log.warning("%s: on a CPU PyTorch alone does the work, which is slower", why)


def _fingerprint(program: list[str], chosen: tuple[str, ...], folder: Path) -> str:
    """Of all that decides what comes out: a home folder may be shared by machines with other processors."""
    sources = [path.read_bytes() for path in sorted({*folder.glob("*.[ch]*"), *HERE.glob("*.h")})]
    given = " ".join((*program, *FLAGS, *chosen, platform.machine())).encode()
    return hashlib.sha256(b"\0".join([*sources, given, _processor()])).hexdigest()[:16]


def _processor() -> bytes:
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    except OSError:
        return platform.processor().encode()
    return b"".join(line for line in dict.fromkeys(lines) if line.startswith((b"flags", b"model", b"Features")))
