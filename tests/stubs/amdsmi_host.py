"""Machines with AMD GPUs and EPYC sockets, played by the stub library ``amdsmi.c`` under the real binding.

A scenario is a dictionary of the stub's lines (see the head of ``amdsmi.c``); figures are of the order that real
boards report. ``AmdsmiHost`` writes it where the stub looks, gives the environment in which a new process finds
the stub as its ROCm, and changes the world while that process runs.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import re
import shutil
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from collectors.base import Availability, Source
from collectors.sources.amd.epyc import EpycSource
from collectors.sources.amd.source import AmdSource
from tests.stubs.build import shared_library

Scenario = dict[str, object]

GIB = 1 << 30
NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND, DRIVER_NOT_LOADED, NO_HSMP_DRIVER = 2, 10, 31, 34, 47
HOTSPOT, VRAM, GFX_CLOCK, MEMORY_CLOCK = 1, 3, 0, 4  # sensor and clock numbers of the library

_BOARD: Scenario = {
    "gpu.driver": "6.14.14",
    "gpu.vbios": "113-M3000100-103",
    "gpu.device_id": 0x74A1,
    "gpu.graphics_version": 0x942,
    "gpu.market_name": "AMD Instinct MI300X",
    "gpu.board_name": "AMD Instinct MI300X OAM",
    "gpu.compute_units": 304,
    "gpu.compute_partition": "SPX",
    "gpu.memory_partition": "NPS1",
    "gpu.partition_id": 0,
    "gpu.power_cap_default": 750_000_000,
    "gpu.power_cap_max": 750_000_000,
}

_LOADED: Scenario = {
    "vram_total": 196_592,
    "vram_used": 163_840,
    "average_gfx_activity": 97,
    "average_umc_activity": 42,
    "current_socket_power": 712,
    "energy": 4_750_896_266,
    "temperature_hotspot": 67,
    "temperature_mem": 54,
    "current_gfxclks": [2100, 2100, 2100, 2100, 2060, 2060, 2060, 2060],
    "current_uclk": 1300,
    "accumulation_counter": 10_000_000,
    "ppt_residency_acc": 50_000,
    "socket_thm_residency_acc": 4_000,
    "hbm_thm_residency_acc": 0,
    "vr_thm_residency_acc": 0,
    "prochot_residency_acc": 0,
    "xgmi_read_data_acc": [0, 1000, 1000, 1000, 1000, 1000, 1000, 1000],
    "xgmi_write_data_acc": [0, 2000, 2000, 2000, 2000, 2000, 2000, 2000],
    "power_cap": 750_000_000,
    "ecc_corrected": 3,
    "ecc_uncorrected": 0,
    "bad_pages": "0012",
    "pcie_width": 16,
    "pcie_speed": 32_000,
    "pcie_replays": 7,
    "processes": f"4711:{150 * GIB}:VLLM::EngineCore,4712:0:idle",
}


def rocm_is_here() -> bool:
    """Whether this machine has a real ROCm, with which tests of its absence make no sense."""
    return Path("/opt/rocm").exists() or shutil.which("amd-smi") is not None


def uuid(board: int) -> str:
    """The UUID of a board of every scenario."""
    return f"{board:02x}ff74a1-0000-1000-8000-{board:012x}"


def pci(board: int, function: int = 0) -> str:
    """The PCI address of a board or of one of its partitions."""
    return f"0000:{5 + 16 * board:02x}:00.{function}"


def of(gpu: int, lines: Mapping[str, object]) -> Scenario:
    """Lines of one GPU."""
    return {f"gpu{gpu}.{key}": value for key, value in lines.items()}


def mi300x_host(boards: int = 8, **lines: object) -> Scenario:
    """A server of eight MI300X in SPX mode, all loaded alike."""
    each: Scenario = {}
    for board in range(boards):
        each |= of(board, {"uuid": uuid(board), "pci": pci(board), "oam_id": board, "asic_serial": f"A1B2{board:012X}"})
    return {"gpus": boards, **_BOARD, **{f"gpu.{key}": value for key, value in (_LOADED | lines).items()}, **each}


def cpx_host(boards: int = 2) -> Scenario:
    """MI300X in CPX/NPS4: eight handles per board, and only the first knows about the board.

    What the others say of it differs between releases: here partition 1 says 0 and the rest says nothing.
    """
    memory: Scenario = {"vram_total": 24_574, "vram_used": 20_480, "processes": f"5000:{19 * GIB}:rank"}
    each: Scenario = {}
    for board in range(boards):
        for partition in range(8):
            gpu = 8 * board + partition
            each |= of(gpu, {"uuid": uuid(board), "pci": pci(board, partition), "partition_id": partition, **memory})
        each |= of(8 * board, _LOADED | memory)
        zeros = ("current_socket_power", "energy", "temperature_hotspot", "average_gfx_activity", "current_gfxclks")
        each |= of(8 * board + 1, dict.fromkeys(zeros, 0))
    modes: Scenario = {"gpu.compute_partition": "CPX", "gpu.memory_partition": "NPS4", "gpu.compute_units": 38}
    return {"gpus": 8 * boards, "gpus_per_socket": 8, **_BOARD, **modes, **each}


def mi250x_host() -> Scenario:
    """Two MI250X: four dies, of which the first of each board reports the power of both."""
    board: Scenario = {
        "gpu.driver": "Linuxversion6.14.0-24-generic(buildd@host)(gcc13.3.0)#24SMPPREEMPT_DYNAMIC",
        "gpu.market_name": "AMD Instinct MI250X / MI250",
        "gpu.graphics_version": 0x90A,
        "gpu.compute_units": 104,
        "gpu.vram_total": 65_520,
        "gpu.vram_used": 1_024,
        "gpu.average_gfx_activity": 80,
        "gpu.temperature_hotspot": 60,
        "gpu.temperature_hbm": [51, 58, 55, 52],
        "gpu.current_gfxclk": 1700,
        "gpu.current_uclk": 1600,
        "gpu.indep_throttle_status": 0,
        "gpu.power_cap": 560_000_000,
        "gpu.processes": "",
        "gpu.has_power_info": 1,
    }
    each: Scenario = {}
    for die in range(4):
        power = {"average_socket_power": 420, "energy": 65_536_000} if die % 2 == 0 else {"average_socket_power": 0}
        each |= of(die, {"uuid": uuid(die), "pci": pci(die), "board_serial": f"PCB{die // 2:05d}", **power})
    return {"gpus": 4, **board, **each}


def modest_host() -> Scenario:
    """One board that answers "not supported" to about half of the questions, the metrics table among them."""
    return {
        "gpus": 1,
        "gpu0.uuid": uuid(0),
        "gpu0.pci": pci(0),
        "gpu0.market_name": "0x7410",
        "gpu0.board_name": "AMD Instinct MI210",
        "gpu0.vram_total": 65_520,
        "gpu0.vram_used": 10,
        "gpu0.fail.amdsmi_get_gpu_metrics_info": NOT_SUPPORTED,
        "gpu0.activity.gfx": 12,
        "gpu0.activity.umc": 0xFFFF,
        "gpu0.has_power_info": 1,
        "gpu0.power_info.average": 94,  # current and socket power are left at all ones, which the binding passes on
        f"gpu0.sensor.{HOTSPOT}": 41,
        f"gpu0.clock.{GFX_CLOCK}": 800,
    }


def epyc_host(sockets: int = 2) -> Scenario:
    """Two EPYC 9654 with the HSMP and the energy driver."""
    each: Scenario = {}
    for socket in range(sockets):
        each |= {
            f"cpu{socket}.milliwatts": 212_500 + socket,
            f"cpu{socket}.microjoules": 1_234_567_890 + socket,
            f"cpu{socket}.temperature": 51_125 + 1000 * socket,
        }
    return {
        "cpus": sockets,
        "cpu.model_name": "AMD EPYC 9654 96-Core Processor",
        "cpu.cap_milliwatts": 360_000,
        "cpu.hsmp_protocol": 6,
        "cpu.firmware": "71.81.0",
        **each,
    }


class AmdsmiHost:
    """A world that the stub sees, and that a test may change at any time.

    Args:
        folder: where the world's files are written, usually ``tmp_path``.
        scenario: lines of the stub; ``mi300x_host()`` and its neighbours.
    """

    def __init__(self, folder: Path, scenario: Scenario) -> None:
        self.rocm = folder / "rocm"
        (self.rocm / "lib").mkdir(parents=True)
        (self.rocm / ".info").mkdir()
        (self.rocm / ".info" / "version").write_text("7.0.2-56\n", "utf-8")
        (self.rocm / "lib" / "libamd_smi.so").symlink_to(_library())
        self._file = folder / "amdsmi-world"
        self._clock = folder / "amdsmi-clock"
        self._lines: Scenario = {}
        self.env = {
            "ROCM_HOME": str(self.rocm),
            "ROCM_PATH": str(self.rocm),
            "AMDSMI_STUB_STATE": str(self._file),
        }
        self.show(scenario)
        self.turn_clock(1000.0)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let processes that are started from now on find the stub as their ROCm."""
        for name, value in self.env.items():
            monkeypatch.setenv(name, value)

    def show(self, scenario: Scenario) -> None:
        """Another machine altogether."""
        self._lines = dict(scenario)
        self.change({})

    def change(self, lines: Mapping[str, object]) -> None:
        """Set lines; ``None`` takes one out, which means "not measured" or "not supported"."""
        self._lines |= lines
        content = "".join(f"{key}={_written(value)}\n" for key, value in self._lines.items() if value is not None)
        unfinished = self._file.with_suffix(".new")
        unfinished.write_text(content, "utf-8")
        unfinished.replace(self._file)

    def lose(self, gpu: int) -> None:
        """A board no longer answers, though the library still lists it."""
        self.change({f"gpu{gpu}.fail": NOT_FOUND})

    def restore(self, gpu: int) -> None:
        """A lost board answers again."""
        self.change({f"gpu{gpu}.fail": None})

    def reload_driver(self) -> None:
        """All handles given out so far are stale from now on."""
        self.change({"generation": int(str(self._lines.get("generation", 0))) + 1})

    def hang(self, function: str = "amdsmi_get_gpu_metrics_info") -> None:
        """A call never returns."""
        self.change({f"fail.{function}": "hang"})

    def crash(self, function: str = "amdsmi_get_gpu_metrics_info") -> None:
        """A call takes the process down."""
        self.change({f"fail.{function}": "crash"})

    def bundle(self, version: str) -> Path:
        """Put a copy of the binding into this ROCm, as a real one has it, with a version of its own."""
        package = self.rocm / "share" / "amd_smi" / "amdsmi"
        shutil.copytree(_binding(), package, ignore=shutil.ignore_patterns("__pycache__"))
        (package / "_version.py").write_text(f'__version__ = "{version}"\n', "utf-8")
        return package

    @property
    def clock(self) -> FileClock:
        """A monotonic clock for sources in another process, turned by ``turn_clock``."""
        return FileClock(self._clock)

    def turn_clock(self, seconds: float) -> None:
        """Set ``clock``."""
        self._clock.write_text(str(seconds), "utf-8")


class FileClock:
    """A clock that shows what a file says; can be sent to another process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self) -> float:
        return float(self._path.read_text("utf-8"))


_SOURCES: dict[str, Callable[..., Source]] = {"amd": AmdSource, "epyc": EpycSource}


class Bench:
    """A process in which the binding lives, and in which a test builds and uses one source after the other."""

    def __init__(self, folder: Path) -> None:
        self.host = AmdsmiHost(folder, {})
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        with pytest.MonkeyPatch.context() as only_there:  # in this process the stub must never be loaded
            self.host.install(only_there)
            self._process.start()
        theirs.close()

    def build(self, name: str, **arguments: object) -> None:
        """Close the source before and build a new one."""
        self._call("build", name, arguments)

    def discover(self) -> Availability:
        found: Availability = self._call("discover")
        return found

    def collect(self) -> list[Any]:
        readings: list[Any] = self._call("collect")
        return readings

    def close(self) -> None:
        self._call("close")

    @property
    def pid(self) -> int:
        """Of the process that holds the binding."""
        return self._process.pid or 0

    def struct_sizes(self) -> dict[str, tuple[int, int]]:
        """Per structure its size in the stub and in the binding."""
        sizes: dict[str, tuple[int, int]] = self._call("sizes")
        return sizes

    def end(self) -> None:
        self._pipe.close()
        self._process.join(10)
        self._process.kill()

    def _call(self, *what: object) -> Any:
        self._pipe.send(what)
        assert self._pipe.poll(20), f"no answer to {what[0]}"
        answer = self._pipe.recv()
        if isinstance(answer, BaseException):
            raise answer
        return answer


def _serve(pipe: Connection) -> None:
    source: Any = None
    while True:
        try:
            what, *arguments = pipe.recv()
        except EOFError:
            return
        try:
            answer: object = None
            if what == "build":
                if source is not None:
                    source.close()
                source = _SOURCES[arguments[0]](**arguments[1])
            elif what == "sizes":
                answer = _sizes()
            else:
                answer = getattr(source, what)()
        except Exception as exc:  # noqa: BLE001  the test shall see it
            answer = exc
        pipe.send(answer)


def _sizes() -> dict[str, tuple[int, int]]:
    import ctypes

    from amdsmi import amdsmi_wrapper

    names = (
        "version", "vram_usage", "power_cap_info", "power_info", "asic_info", "kfd_info", "driver_info", "board_info",
        "vbios_info", "error_count", "retired_page_record", "engine_usage", "clk_info", "pcie_info", "proc_info",
        "cpu_info", "gpu_metrics",
    )  # fmt: skip
    size = amdsmi_wrapper._libraries["libamd_smi.so"].stub_sizeof
    size.argtypes, size.restype = [ctypes.c_char_p], ctypes.c_uint64
    return {
        name: (size(f"{name}_t".encode()), ctypes.sizeof(getattr(amdsmi_wrapper, f"struct_amdsmi_{name}_t")))
        for name in names
    }


def _written(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _binding() -> Path:
    """Where the installed binding is; looking does not import it."""
    found = importlib.util.find_spec("amdsmi")
    if found is None or found.origin is None:
        pytest.skip("the Python package amdsmi is not installed")
    return Path(found.origin).parent


def _library() -> Path:
    """The stub with every entry point that the binding asks for when it is imported."""
    source = Path(__file__).with_name("amdsmi.c")
    wanted = re.findall(r"_libraries\['libamd_smi\.so'\]\.(\w+)", (_binding() / "amdsmi_wrapper.py").read_text("utf-8"))
    present = set(re.findall(r"^(?:int |CPU_NUMBER\()(amdsmi_\w+)", source.read_text("utf-8"), re.MULTILINE))
    rest = "".join(f"X({name})" for name in sorted(set(wanted) - present))
    return shared_library(source, "libamd_smi.so", f"-DREST(X)={rest}")
