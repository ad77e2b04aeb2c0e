"""What a candidate's time depends on besides the candidate and its operands."""

from __future__ import annotations

import functools
import os
import platform

import torch


@functools.cache
def processor() -> str:
    """The processor's model."""
    try:
        with open("/proc/cpuinfo") as file:
            line = next(line for line in file if line.startswith("model name"))
            return line.partition(":")[2].strip()
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def describe_environment(device: torch.device) -> dict[str, str]:
    """In words for people to read; ``device`` is the one that operands are on."""
    found = {"torch": torch.__version__, "device": processor(), "driver": ""}
    if device.type == "cpu":
        found["device"] += f", {torch.backends.cpu.get_cpu_capability()}"
        found["threads"] = f"{torch.get_num_threads()} of {os.cpu_count()}"
        return found
    interface = torch._dynamo.device_interface.get_interface_for_device(device.type)
    properties = interface.get_device_properties(device)
    found["device"] = str(getattr(properties, "name", device.type))
    found["driver"] = str(torch.version.cuda or torch.version.hip or "")
    found["threads"] = ""
    return found
