"""The processor by name, what it multiplies whole numbers with, and what the environment holds the libraries to."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

CPUINFO = Path("/proc/cpuinfo")
# The first that a processor has counts.
UNITS = {"amx_int8": "AMX", "avx512_vnni": "AVX-512 with VNNI", "avx_vnni": "AVX2 with VNNI", "avx512f": "AVX-512"}
UNITS |= {"avx2": "AVX2", "asimddp": "NEON with dot products", "asimd": "NEON"}
HOLDING = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "ATEN_CPU_CAPABILITY")


class Processor(NamedTuple):
    """What a table of speed must name."""

    name: str
    units: str
    held: dict[str, str]  # variables that keep a library from using all of it

    def in_words(self) -> str:
        """Return name, units, and what is held."""
        held = "; held by " + ", ".join(f"{name}={value}" for name, value in self.held.items()) if self.held else ""
        return f"{self.name} ({self.units}{held})"


def this_processor(cpuinfo: Path = CPUINFO, environment: Mapping[str, str] = os.environ) -> Processor:
    """Return the processor of this machine.

    :param cpuinfo: where Linux describes it; elsewhere Python's own words are all there is.
    :param environment: variables.
    :returns: its name, e.g. "AMD EPYC 9B45", and its widest units.
    """
    told: dict[str, str] = {}
    if cpuinfo.exists():
        pairs = [line.partition(":") for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()]
        told = {name.strip(): value.strip() for name, _, value in reversed(pairs)}
    flags = (told.get("flags") or told.get("Features") or "").split()
    units = next((words for flag, words in UNITS.items() if flag in flags), "units unknown")
    held = {name: environment[name] for name in HOLDING if environment.get(name)}
    return Processor(told.get("model name") or platform.processor() or platform.machine(), units, held)
