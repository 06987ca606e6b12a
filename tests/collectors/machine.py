"""Builders of small ``/proc`` and ``/sys`` trees, written as the kernel writes them."""

from pathlib import Path

EPYC = "AMD EPYC 9654 96-Core Processor"
UJ = 1_000_000


def write(path: Path, text: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n", "utf-8")
    return path


class Clock:
    """Seconds that pass when told to."""

    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        return self.seconds

    def advance(self, seconds):
        self.seconds += seconds


class Machine:
    """A fake machine below one folder."""

    def __init__(self, root: Path):
        self.proc = root / "proc"
        self.sys = root / "sys"
        self.powercap = self.sys / "class/powercap"
        (self.proc / "self").mkdir(parents=True)

    def cpuinfo(self, sockets=2, threads=2, name=EPYC, flags="fpu sse2 constant_tsc", megahertz=None, physical_id=True):
        """``threads`` logical CPUs per socket, numbered across sockets as Linux does: 0 and 2 on socket 0."""
        blocks = []
        for cpu in range(sockets * threads):
            lines = [
                f"processor\t: {cpu}",
                "vendor_id\t: AuthenticAMD",
                "cpu family\t: 25",
                "model\t\t: 17",
                f"model name\t: {name}",
                "stepping\t: 1",
            ]
            if megahertz:
                lines.append(f"cpu MHz\t\t: {megahertz[cpu]:.3f}")
            if physical_id:
                lines += [f"physical id\t: {cpu % sockets}", f"core id\t\t: {cpu // sockets}", "cpu cores\t: 96"]
            blocks.append("\n".join([*lines, f"flags\t\t: {flags}", "power management:"]))
        write(self.proc / "cpuinfo", "\n\n".join(blocks) + "\n")

    def stat(self, cpus):
        """``{cpu: (user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice)}``."""
        total = [sum(column) for column in zip(*cpus.values(), strict=True)]
        lines = [f"cpu  {' '.join(map(str, total))}"]
        lines += [f"cpu{cpu} {' '.join(map(str, ticks))}" for cpu, ticks in cpus.items()]
        write(self.proc / "stat", "\n".join([*lines, "intr 12345 0 0", "btime 1764000000", "softirq 1 2 3"]))

    def busy(self, *shares, ticks=0):
        """CPUs that have been busy for this share of ``ticks`` clock ticks."""
        self.stat({cpu: (round(s * ticks), 0, 0, ticks - round(s * ticks), *[0] * 6) for cpu, s in enumerate(shares)})

    def zone(self, path, name, energy_uj, range_uj=65_532_610_987):
        """A RAPL zone; a top one is also linked into ``/sys/class/powercap``, as the kernel does."""
        real = self.sys / "devices/virtual/powercap" / path
        write(real / "name", name)
        write(real / "energy_uj", round(energy_uj))
        write(real / "max_energy_range_uj", range_uj)
        self.powercap.mkdir(parents=True, exist_ok=True)
        link = self.powercap / real.name
        if not link.is_symlink():
            link.symlink_to(f"../../devices/virtual/powercap/{path}")

    def package(self, number, joules, **parts):
        """One package with its sub-zones, energies in joules."""
        top = f"intel-rapl/intel-rapl:{number}"
        self.zone(top, f"package-{number}", joules * UJ)
        for index, (name, value) in enumerate(parts.items()):
            self.zone(f"{top}/intel-rapl:{number}:{index}", name, value * UJ)

    def hwmon(self, number, name, files, device=None):
        """A sensor chip; ``device`` is the PCI address it belongs to."""
        chip = self.sys / f"class/hwmon/hwmon{number}"
        write(chip / "name", name)
        for file, content in files.items():
            write(chip / file, content)
        if device:
            target = self.sys / "devices/pci0000:00" / device
            target.mkdir(parents=True, exist_ok=True)
            (chip / "device").symlink_to(target)
        return chip

    def container(self):
        write(self.proc / "self/root/.dockerenv", "")
