"""The ``amdsmi`` binding of the installed ROCm: found, imported, checked and asked.

Shared by ``amd`` (GPUs) and ``epyc`` (CPU sockets). The binding reads C structures whose layout changes
between releases, so Python files and ``libamd_smi.so`` of different releases give plausible nonsense
without any error. Hence the copy that ships with ROCm is preferred over the package on PyPI, and a pair
whose releases differ, or cannot be told, is refused. Only ever imported in a child process: the library
can crash, hang, and finds no device when another ROCm library was loaded before it.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import io
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collectors.base import Availability

Number = int | float

OK = 0
NOT_IN_BINDING = -1  # this release has no such function
FAILED_IN_BINDING = -2  # the Python layer failed on what the library returned
NO_PERMISSION = 10
DRIVER_NOT_LOADED = 34

GONE = frozenset({1, 6, 12, 14, 20, 31, 32, 34, 51, 52})
"""Statuses (``AMDSMI_STATUS_…``) that a handle answers once its device or driver has left: INVAL, DRM_ERROR,
IO, FILE_ERROR, DIRECTORY_NOT_FOUND, NOT_FOUND, NOT_INIT, DRIVER_NOT_LOADED, NO_DRV, FILE_NOT_FOUND."""

_ALL_ONES = frozenset({*((1 << width) - 1 for width in (16, 32, 64)), 2.0**64})  # the last: 64 ones as a float

# The package on PyPI carries the ROCm release as its version, the copy inside ROCm the release of the library.
_LIBRARY_OF_ROCM = {
    (6, 2): (24, 6),
    (6, 3): (24, 7),
    (6, 4, 0): (25, 3),
    (6, 4, 1): (25, 4),
    (6, 4, 3): (25, 5),
    (7, 0): (26, 0),
    (7, 1, 0): (26, 1),
    (7, 1, 1): (26, 2),
    (7, 2): (26, 2),
}
_FIRST_LIBRARY_MAJOR = 20


class Unusable(Exception):
    """The binding cannot be used here; says why and what to do."""

    def __init__(self, reason: str, remedy: str, *, absent: bool = False) -> None:
        super().__init__(reason)
        self.availability = Availability(ok=False, reason=reason, remedy=remedy, absent=absent)


def known(value: object) -> Number | None:
    """A number the device measured, else ``None``.

    "Not measured" comes as the text ``N/A``, as a flag in a number's place, or as all ones in 16, 32 or 64
    bits; the width need not be the field's, since the library widens what firmware gave it.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return None if value in _ALL_ONES or math.isnan(value) else value


def within(value: object, low: float, high: float) -> Number | None:
    """A known number between two bounds, both allowed; beyond them it is a fault of the driver, not a reading."""
    number = known(value)
    return number if number is not None and low <= number <= high else None


def text(value: object) -> str:
    """A description as it may be shown; empty where the library has none."""
    if known(value) is not None:
        return str(value)
    shown = value.strip() if isinstance(value, str) else ""
    return "" if shown.upper() in ("N/A", "UNKNOWN") else shown


@dataclass(frozen=True)
class Binding:
    """The imported binding, known to match its library."""

    module: Any
    library: str
    """Release of ``libamd_smi.so``, such as ``26.0.2``."""
    root: Path | None
    """The ROCm it belongs to; ``None`` when the loader found the library elsewhere."""

    @property
    def rocm(self) -> str:
        """The release of that ROCm as its own version file gives it; empty when unknown."""
        try:
            return (self.root / ".info" / "version").read_text("utf-8").split("-")[0].strip() if self.root else ""
        except (OSError, UnicodeDecodeError):
            return ""

    def call(self, function: str, *arguments: object) -> tuple[Any, int]:
        """What a function returns and ``AMDSMI_STATUS_…``; the value is ``None`` unless the status is 0."""
        target = getattr(self.module, function, None)
        if target is None:
            return None, NOT_IN_BINDING
        try:
            return target(*arguments), OK
        except Exception as exc:  # noqa: BLE001  besides its own errors it leaks ValueError (NULL pointer), KeyError, UnicodeDecodeError
            status = getattr(exc, "err_code", None)
            return None, status if isinstance(status, int) else FAILED_IN_BINDING

    def ask(self, function: str, *arguments: object) -> Any:  # noqa: ANN401  the binding is untyped
        """What a function returns; ``None`` when the device, driver or release cannot tell."""
        return self.call(function, *arguments)[0]

    def table(self, function: str, *arguments: object) -> Mapping[str, Any]:
        """Like ``ask`` for the functions that return a dict; empty when there is none."""
        answer = self.ask(function, *arguments)
        return answer if isinstance(answer, dict) else {}

    def constant(self, kind: str, name: str) -> Any:  # noqa: ANN401
        """A member of one of the binding's enumerations; ``None`` in a release without it."""
        return getattr(getattr(self.module, kind, None), name, None)

    def throttler_bits(self, handle: object) -> int | None:
        """``indep_throttle_status`` of the metrics table, which the Python layer folds into true or false."""
        try:
            wrapper = self.module.amdsmi_wrapper
            table = wrapper.amdsmi_gpu_metrics_t()
            failed = wrapper.amdsmi_get_gpu_metrics_info(handle, ctypes.byref(table))
            bits = None if failed else known(table.indep_throttle_status)
        except Exception:  # noqa: BLE001  an inner name of the binding: a release may move it
            return None
        return None if bits is None else int(bits)

    def start(self, processors: str) -> int:
        """Open the library for ``INIT_AMD_GPUS`` or ``INIT_AMD_CPUS``; the status."""
        return self.call("amdsmi_init", self.constant("AmdSmiInitFlags", processors))[1]

    def stop(self) -> None:
        """Close the library; whether it was open does not matter."""
        self.call("amdsmi_shut_down")


def installed_roots(environment: Mapping[str, str] | None = None) -> tuple[Path, ...]:
    """Where a ROCm may be: ``ROCM_HOME``, ``ROCM_PATH``, the ROCm SDK wheels, ``/opt/rocm``; best first."""
    environment = os.environ if environment is None else environment
    named = [Path(environment[name]) for name in ("ROCM_HOME", "ROCM_PATH") if environment.get(name)]
    wheels = importlib.util.find_spec("_rocm_sdk_core")
    bundled = [Path(place) for place in (wheels.submodule_search_locations or ()) if place] if wheels else []
    return (*named, *bundled, Path("/opt/rocm"))


def load(roots: Sequence[Path] | None, device_file: Path) -> Binding:
    """Import the binding of the first ROCm found and check that it fits the library. Prints nothing.

    Args:
        roots: directories that may hold a ROCm, best first; ``None`` means ``installed_roots()``.
        device_file: what a loaded driver shows; without it a missing ROCm is no fault, just absent.

    Raises:
        Unusable: no binding, no library, or a pair that does not match.
    """
    root = None
    try:
        candidates = installed_roots() if roots is None else roots
        root = next((root for root in candidates if _has_binding(root) or any(root.glob("lib*/libamd_smi.so*"))), None)
        with _seen_from(root), contextlib.redirect_stdout(io.StringIO()):
            module = importlib.import_module("amdsmi")
    except Exception as exc:  # ImportError, OSError, KeyError, AttributeError: each release fails in its own way
        raise _why(exc, root, absent=root is None and not device_file.exists()) from exc
    return Binding(module, _checked_release(module, root), root)


def _has_binding(root: Path) -> bool:
    return (root / "share" / "amd_smi" / "amdsmi" / "__init__.py").is_file()


@contextlib.contextmanager
def _seen_from(root: Path | None) -> Iterator[None]:
    """For the time of the import: ``root``'s binding first, and its library where the binding will look."""
    if root is None:
        yield
        return
    path, before = list(sys.path), {name: os.environ.get(name) for name in ("ROCM_HOME", "ROCM_PATH")}
    if _has_binding(root):
        sys.path.insert(0, str(root / "share" / "amd_smi"))
    os.environ.update(dict.fromkeys(before, str(root)))
    try:
        yield
    finally:
        sys.path[:] = path
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _remedy(root: Path | None) -> str:
    place = root / "share" / "amd_smi" if root and _has_binding(root) else Path("/opt/rocm/share/amd_smi")
    return f"install the amdsmi that ships with this ROCm: pip install {place}"


def _why(exc: Exception, root: Path | None, *, absent: bool) -> Unusable:
    """What a failed import means."""
    if isinstance(exc, ModuleNotFoundError) and exc.name == "amdsmi":
        return Unusable("the Python package amdsmi is not installed", _remedy(root), absent=absent)
    if isinstance(exc, AttributeError):  # every entry point is bound at import
        return Unusable(f"amdsmi and libamd_smi.so are of different releases ({exc})", _remedy(root))
    if isinstance(exc, KeyError | OSError):
        return Unusable(
            "libamd_smi.so was not found: no ROCm here",
            "on a machine with AMD devices install the package amd-smi-lib, or set ROCM_PATH to the ROCm that has it",
            absent=absent,
        )
    return Unusable(f"amdsmi cannot be imported ({type(exc).__name__}: {exc})", _remedy(root))


def _checked_release(module: Any, root: Path | None) -> str:  # noqa: ANN401
    """The library's release, once it is known to be the binding's."""
    own = str(getattr(module, "__version__", ""))
    try:
        library = module.amdsmi_get_lib_version()
        # Before 25.3 the year came first: 24.6.3 is year 24, major 6, minor 3.
        parts = [library[name] for name in ("year", "major", "minor", "release") if name in library]
    except Exception as exc:
        raise Unusable(f"libamd_smi.so does not tell its release ({type(exc).__name__})", _remedy(root)) from exc
    release = ".".join(str(part) for part in parts[:3])
    expected = _library_of(own)
    if expected is None:
        raise Unusable(f"cannot tell whether amdsmi {own or '?'} fits libamd_smi.so {release}", _remedy(root))
    if tuple(parts[:2]) != expected:
        wanted = ".".join(map(str, expected))
        raise Unusable(f"amdsmi {own} fits libamd_smi.so {wanted}, but this one is {release}", _remedy(root))
    return release


def _library_of(version: str) -> tuple[int, int] | None:
    """Major and minor of the library that a binding was made for; ``None`` when its version does not say."""
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", version)
    if match is None:
        return None
    release = tuple(int(part) for part in match.groups(default="0"))
    if release[0] >= _FIRST_LIBRARY_MAJOR:
        return release[0], release[1]
    return _LIBRARY_OF_ROCM.get(release) or _LIBRARY_OF_ROCM.get(release[:2])
