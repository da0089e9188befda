"""The machine or container: processor, cores, memory, limits, shared memory, clock."""

from __future__ import annotations

import os
import platform
import resource
import time
from pathlib import Path

from servable import cgroups
from servable.checkup.check import NOTE, OK, PROBLEM, WARNING, Check
from servable.config import memory_limit
from servable.sizes import size_text

FEW_BYTES = 1 << 30
SMALL_SHM = 128 << 20
FEW_FILES = 4096
FEW_WAITING = 1024
MOST_THROTTLED = 0.05
FAST_CLOCKS = (
    "tsc",
    "kvm-clock",
    "hyperv_clocksource_tsc_page",
    "arch_sys_counter",
    "xen",
    "timebase",
    "riscv",
)


def processor(root: Path, machine: str) -> Check:
    """Looks for the instructions that engines need. machine: as ``platform.machine()`` says."""
    text = cgroups.text(root / "proc/cpuinfo")
    fields = [line.partition(":") for line in text.splitlines()]
    names = [value.strip() for key, _, value in fields if key.strip() in ("model name", "Model")]
    flags = {one for key, _, value in fields if key.strip() in ("flags", "Features") for one in value.split()}
    title = f"{names[0] if names else 'a processor'} ({machine})"
    if machine not in ("x86_64", "AMD64") or not flags:
        return Check("processor", OK, title)
    if "avx" not in flags:
        return Check(
            "processor",
            PROBLEM,
            f"{title} has no AVX, which TensorFlow's packages need: a load would end the server",
            "use another machine, or let the virtual machine have the host's processor (-cpu host)",
        )
    missing = sorted({"avx2", "fma"} - flags)
    if missing:
        return Check(
            "processor",
            WARNING,
            f"{title} lacks {', '.join(missing)}: models take several times as long",
            "let the virtual machine have the host's processor, or use a newer machine",
        )
    shown = [one for one in ("avx2", "fma", "avx512f", "avx512_vnni", "amx_tile") if one in flags]
    return Check("processor", OK, f"{title} with {', '.join(shown)}")


def cores(root: Path, seen: int, allowed: int) -> Check:
    """Compares cores with what may be used. seen: of the machine; allowed: by the process's affinity."""
    quota = cgroups.cores(root)
    usable = min(allowed, quota) if quota is not None else allowed
    found = f"{usable:g} of {seen}" + (
        f", by a limit of {quota:g} on processor time" if quota is not None else ""
    )
    waiting = cgroups.throttled(root)
    if waiting > MOST_THROTTLED:
        return Check(
            "cores",
            WARNING,
            f"{found}; the container had to wait for its processor time in {waiting:.0%} of all periods",
            "raise the limit (docker --cpus, Kubernetes limits.cpu), or ask for whole cores",
        )
    if usable < 1:
        return Check(
            "cores",
            WARNING,
            f"{found}: latencies will show pauses of up to 100 ms",
            "give it at least one core (docker --cpus=1, Kubernetes limits.cpu: 1)",
        )
    return Check("cores", OK, found)


def memory(root: Path) -> Check:
    """Looks at the memory that there is, and that is free."""
    limit = memory_limit.limit(root)
    lines = cgroups.text(root / "proc/meminfo").splitlines()
    free = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), "")
    available = min(limit, int(free) * 1024) if free.isdecimal() else limit
    found = f"{size_text(limit)} may be used" + (f", {size_text(available)} are free" if free else "")
    if limit < FEW_BYTES or available < FEW_BYTES // 2:
        return Check(
            "memory",
            WARNING,
            found,
            "a server with TensorFlow takes some 300 MB, and each model its weights twice while it loads: "
            "raise the limit, or end other programs",
        )
    return Check("memory", OK, found)


def open_files(soft: int, hard: int) -> Check:
    """Looks at the limit on open files: each connection is one. The server raises the soft limit itself."""
    shown = "any number" if hard == resource.RLIM_INFINITY else str(hard)
    if 0 <= hard < FEW_FILES:
        return Check(
            "open files",
            WARNING,
            f"at most {shown}: that is as many connections",
            "raise the limit: ulimit -Hn, LimitNOFILE= of systemd, docker --ulimit nofile=65536",
        )
    return Check("open files", OK, f"up to {shown} (now {soft}, which the server raises)")


def address_space(limit: int) -> Check:
    """Looks for a limit on virtual memory."""
    if limit == resource.RLIM_INFINITY:
        return Check("address space", OK, "no limit")
    return Check(
        "address space",
        WARNING,
        f"limited to {size_text(limit)}: engines reserve more than they use, and fail",
        "remove it (ulimit -v unlimited) and limit the memory by a control group",
    )


def shared_memory(folder: str) -> Check:
    """Looks at ``/dev/shm``, which clients of --shared_memory and some engines use."""
    try:
        found = os.statvfs(folder)
    except OSError as error:
        advice = "mount it (docker --shm-size=1g) if clients pass tensors by --shared_memory"
        return Check("shared memory", NOTE, f"{folder}: {error.strerror}", advice)
    size, free = found.f_frsize * found.f_blocks, found.f_frsize * found.f_bavail
    shown = f"{folder} has {size_text(size)}, {size_text(free)} free"
    if not os.access(folder, os.W_OK):
        return Check("shared memory", NOTE, f"{shown}, and may not be written to")
    if free < SMALL_SHM:
        return Check(
            "shared memory",
            NOTE,
            shown,
            "enlarge it (docker --shm-size=1g) if clients pass tensors by --shared_memory",
        )
    return Check("shared memory", OK, shown)


def backlog(root: Path) -> Check:
    """Looks at the number of connections that may wait to be accepted."""
    text = cgroups.text(root / "proc/sys/net/core/somaxconn")
    if text.isdecimal() and int(text) < FEW_WAITING:
        return Check(
            "backlog",
            NOTE,
            f"{text} connections may wait to be accepted: a storm of clients sees more refused",
            "sysctl -w net.core.somaxconn=4096",
        )
    return Check("backlog", OK, f"{text or 'an unknown number of'} connections may wait to be accepted")


def clock(root: Path, now: float, built: float) -> Check:
    """Looks whether the clock can be right, and is fast. built: when this program was."""
    shown = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(now))
    if now < built - 86400:
        return Check(
            "clock",
            WARNING,
            f"it says {shown}, which is before this program was installed",
            "set it: certificates, deadlines of tokens and traces depend on it (chrony, systemd-timesyncd)",
        )
    source = cgroups.text(root / "sys/devices/system/clocksource/clocksource0/current_clocksource")
    if source and not source.startswith(FAST_CLOCKS):
        return Check(
            "clock",
            NOTE,
            f"{shown}, read from {source}, which takes a microsecond or more each time",
            "see whether the machine offers tsc or kvm-clock (available_clocksource)",
        )
    return Check("clock", OK, shown + (f" ({source})" if source else ""))


def all_of_machine(root: Path) -> list[Check]:
    """Returns every check of this file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return [
        processor(root, platform.machine()),
        cores(root, os.cpu_count() or 1, allowed),
        memory(root),
        open_files(soft, hard),
        address_space(resource.getrlimit(resource.RLIMIT_AS)[1]),
        shared_memory(str(root / "dev/shm")),
        backlog(root),
        clock(root, time.time(), os.stat(__file__).st_mtime),
    ]
