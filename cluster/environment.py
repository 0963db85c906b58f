"""What of the caller's shell reaches a local head and its jobs, and what does not.

Ray obeys hundreds of RAY_* variables, and a shell that was set up for another cluster, for TLS or for a
debugging session carries some of them; Python and bash have switches of their own. A local head takes over
those that are an operator's wish for this machine and does no harm with them; the others stay outside.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

KEEP = "MUSTER_KEEP_RAY"
"""Names, separated by commas, of variables that are passed on all the same."""

KEPT = frozenset(
    # When memory or disk runs out.
    "RAY_memory_usage_threshold RAY_memory_monitor_refresh_ms RAY_min_memory_free_bytes "
    "RAY_count_swap_in_memory_monitor RAY_task_oom_retries RAY_worker_oom_score_adjustment "
    "RAY_local_fs_capacity_threshold "
    # The object store and its spilling.
    "RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES RAY_DEFAULT_OBJECT_STORE_MEMORY_PROPORTION "
    "RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE RAY_preallocate_plasma_memory RAY_automatic_object_spilling_enabled "
    "RAY_object_spilling_config RAY_object_spilling_directory RAY_object_spilling_threshold RAY_max_io_workers "
    # Logs.
    "RAY_BACKEND_LOG_LEVEL RAY_LOGGER_LEVEL RAY_ROTATION_MAX_BYTES RAY_ROTATION_BACKUP_COUNT RAY_DEDUP_LOGS "
    "RAY_COLOR_PREFIX RAY_event_stats "
    # Patience on a slow or busy machine.
    "RAY_worker_register_timeout_seconds RAY_agent_register_timeout_ms RAY_raylet_start_wait_time_s "
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S RAY_gcs_server_request_timeout_seconds RAY_health_check_initial_delay_ms "
    "RAY_health_check_period_ms RAY_health_check_timeout_ms RAY_health_check_failure_threshold "
    "RAY_JOB_START_TIMEOUT_SECONDS RAY_JOB_STOP_WAIT_TIME_S "
    # How CPUs are counted and shared, and where the dashboard finds its charts.
    "RAY_USE_MULTIPROCESSING_CPU_COUNT RAY_DISABLE_DOCKER_CPU_WARNING RAY_worker_niceness "
    "RAY_PROMETHEUS_HOST RAY_PROMETHEUS_NAME RAY_GRAFANA_HOST RAY_GRAFANA_IFRAME_HOST "
    # Where Python finds its modules, and keeps its caches. Its other switches (warnings as
    # errors, -i, -O, tracing, debugging allocators) are meant for one program, and Ray's processes are many.
    "PYTHONPATH PYTHONHOME PYTHONPLATLIBDIR PYTHONUSERBASE PYTHONNOUSERSITE PYTHONSAFEPATH PYTHONPYCACHEPREFIX "
    "PYTHONDONTWRITEBYTECODE PYTHONUNBUFFERED PYTHONFAULTHANDLER PYTHONHASHSEED PYTHONINTMAXSTRDIGITS".split()
)
_READ_BY_RAY_OR_PYTHON = ("RAY_", "PYTHON")
#: Ray starts its workers through bash, which would run this file, or take these options, before each of them.
_READ_BY_BASH = ("BASH_ENV", "BASHOPTS", "SHELLOPTS")
#: These are passed on, as training may need them, and are named where a head fails.
_LOADER = ("LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "MALLOC_", "GLIBC_TUNABLES", "GRPC_", "CONDA_PREFIX")


class Inherited(NamedTuple):
    """A shell's variables, sorted."""

    passed_on: dict[str, str]
    dropped: tuple[str, ...]
    "Names of those that a local head does not get."


def inherited(ours: Mapping[str, str]) -> Inherited:
    """The variables of this process that a local head gets; `ours` are set by us and replace the shell's."""
    wanted = {name.strip() for name in os.environ.get(KEEP, "").split(",")}
    passed_on = {name: value for name, value in os.environ.items() if name in wanted or not _foreign(name)}
    dropped = [
        name
        for name, value in os.environ.items()
        if name not in passed_on
        and ours.get(name) != value
        and not name.startswith(tuple(_HARMLESS))
        and (name, value) != _RAYS_OWN
    ]
    return Inherited(passed_on, tuple(sorted(dropped)))


#: Dropped without a word: set by most tools that start Ray or Python, and replaced or without effect here.
_HARMLESS = ("RAY_USAGE_STATS_ENABLED", "PYTHON_BASIC_REPL", "PYTHONSTARTUP")


#: Ray sets it in every process that imports it.
_RAYS_OWN = ("RAY_CLIENT_MODE", "0")


def _foreign(name: str) -> bool:
    return name not in KEPT and (name.startswith(_READ_BY_RAY_OR_PYTHON) or name in _READ_BY_BASH)


def dropped_text(names: tuple[str, ...]) -> str:
    """The line that tells of them; "" if there are none."""
    if not names:
        return ""
    return (
        f"Not passed on to the local Ray head: {', '.join(names)}. "
        f"{KEEP}={names[0]} passes it on; put commas between names."
    )


def suspects() -> str:
    """The variables of this process that can decide how a head comes up, by name; "none" if there are none."""
    found = [
        name
        for name in os.environ
        if name.startswith((*_READ_BY_RAY_OR_PYTHON, *_LOADER)) or name in _READ_BY_BASH
    ]
    return ", ".join(sorted(found)) or "none"
