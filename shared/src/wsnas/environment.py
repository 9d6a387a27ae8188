"""The environment a result may depend on besides its recipe and seed, and the command and commit that made it."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from pathlib import Path

OWN = ":/shared/src/wsnas/environment.py"  # this file, from the top of wsnas's repository


def _processor() -> str:
    """The processor's name and model, if known: kernels, and so the last bits, depend on it."""
    try:
        if sys.platform == "darwin":
            asked = ["sysctl", "-n", "machdep.cpu.brand_string"]
            found = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
        else:
            found = named_in(Path("/proc/cpuinfo").read_text())
    except (OSError, subprocess.CalledProcessError):
        found = ""
    return found or platform.processor() or platform.machine()


def named_in(cpuinfo: str) -> str:
    """The name in Linux's /proc/cpuinfo; ARM's kernels give only numbers, of the maker and the part."""
    lines = cpuinfo.split("\n\n")[0].splitlines()
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    known = [fields.get(name, "") for name in ("model name", "cpu family", "model")]
    known += [f"{name} {fields[name]}" for name in ("CPU implementer", "CPU variant", "CPU part") if name in fields]
    return " ".join(part for part in known if part)


def command_line() -> str:
    """The running command, without its folder, quoted for the shell."""
    name = Path(sys.argv[0]).name
    return shlex.join(["wsnas" if name == "__main__.py" else name, *sys.argv[1:]])


def commit() -> str | None:
    """The commit of wsnas's own repository, if the running script or this code lies in it; None if unknown.

    Not of another repository in which wsnas is installed, or whose script uses it.
    """
    for place in (sys.argv[0], __file__):
        git = ["git", "-C", str(Path(place).resolve().parent)]
        try:
            found = [
                subprocess.run([*git, *command], capture_output=True, text=True, check=True).stdout
                for command in (["ls-files", "--error-unmatch", OWN], ["describe", "--always", "--dirty"])
            ]
        except (OSError, subprocess.CalledProcessError):
            continue
        return found[-1].strip()
    return None


def environment() -> dict[str, str]:
    """Versions and hardware that a result may depend on besides its recipe and seed."""
    import numpy
    import torch

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "machine": platform.machine(),
        "processor": _processor(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }
