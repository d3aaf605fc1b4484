"""What processes cost, from the operating system's own accounting."""

import os
from contextlib import suppress
from pathlib import Path


def family(pid):
    """The process and all that descend from it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            for child in (task / "children").read_text().split():
                found += family(int(child))
    return found


def cpu_ms(*pids):
    """Milliseconds that these processes and their descendants have run, of any thread that lives.

    The scheduler counts nanoseconds (the first field of schedstat, proc(5)); of threads that have
    ended it forgets them, so measure processes whose threads stay.
    """
    spent = 0
    for pid in {each for root in pids for each in family(root)}:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                spent += int((task / "schedstat").read_text().split()[0])
    return spent / 1e6


def cpu_of(pid):
    """Seconds of CPU of a process, its ended threads included, and of the children that it has buried."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own, buried = sum(map(int, fields[11:13])), sum(map(int, fields[13:15]))
    ticks = os.sysconf("SC_CLK_TCK")
    return own / ticks, buried / ticks


def resident_mb(*pids):
    """Megabytes that these processes and their descendants hold, shared pages counted in parts."""
    total = 0
    for pid in {each for root in pids for each in family(root)}:
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total / 1024


if os.name != "posix" or not Path("/proc/self/schedstat").exists():
    raise SystemExit("The benchmarks read Linux's /proc.")
