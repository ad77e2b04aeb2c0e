"""What a candidate's time depends on besides the candidate and its operands."""

from __future__ import annotations

import fnmatch
import functools
import os
import platform
from typing import Any

import torch
from torch._inductor import config

# These say what is shown, kept, named or waited for, and leave the code and its speed
# as they are. Every other setting counts, those of later releases as well.
_OBSERVING = (
    "TYPE_CHECKING",
    "_cache_config_*",
    "_profile_var",
    "_raise_error_for_testing",
    "_save_config_ignore",
    "aot_inductor.dump_aoti_minifier",
    "aot_inductor.metadata",
    "aot_inductor.model_name_for_generated_files",
    "aot_inductor.output_path",
    "aot_inductor.package*",
    "aot_inductor.repro_level",
    "aot_inductor.serialized_*",
    "autoheuristic_log_path",
    "autotune_num_choices_displayed",
    "bundle_triton_into_fx_graph_cache",
    "bundled_autotune_remote_cache",
    "*.binary_remote_cache_force_write",
    "*.upload_to_binary_remote_cache",
    "*.use_binary_remote_cache",
    "comment_origin",
    "compile_worker_wait_timeout",
    "cpp.descriptive_names",
    "cpp_cache_precompile_headers",
    "debug",
    "debug_fusion",
    "debug_ir_traceback",
    "developer_warnings",
    "disable_progress",
    "enable_caching_generated_triton_templates",
    "enabled_metric_tables",
    "file_lock_timeout",
    "global_cache_dir",
    "kernel_name_max_ops",
    "log_tlparse",
    "max_autotune_report_choices_stats",
    "non_blocking_remote_cache_write",
    "precompilation_timeout_seconds",
    "quiesce_async_compile_*",
    "range_dispatch.*",
    "remote_gemm_autotune_cache",
    "reorder_for_peak_memory_debug",
    "rocm.print_kernel_resource_usage",
    "rocm.save_temps",
    "save_args",
    "torchinductor_worker_logpath",
    "trace.*",
    "triton.descriptive_names",
    "triton.proton_output_dir",
    "triton.store_cubin",
    "triton.unique_kernel_names",
    "triton.unique_user_kernel_names",
    "unsafe_marked_cacheable_functions",
    "unsafe_skip_cache_dynamic_shape_guards",
    "verbose_progress",
    "warn_mix_layout",
    "worker_*",
)


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


def deciding_settings() -> dict[str, Any]:
    """The settings that change the code or the speed of a candidate, by name."""
    portable = config.save_config_portable(ignore_private_configs=False)
    return {name: value for name, value in portable.items() if not _observes(name)}


@functools.cache
def _observes(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in _OBSERVING)
