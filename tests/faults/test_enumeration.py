"""A worker is killed at each of its network and commit points, whatever fal does meanwhile."""

import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest
from enumeration import SCENARIOS

from i2i.config import ROOT

pytestmark = pytest.mark.heavy

GUARD_SECONDS = 1200

ZYGOTES = len(os.sched_getaffinity(0)) + 1
"""One more than there are cores: a run waits for a third of its time."""

PARTS = 2
"""Into how many orders a scenario is cut, so that all zygotes end together."""


def work_off(orders, *, server, template, folder):
    """One zygote's work: takes orders while there are any; their results."""
    folder.mkdir()
    begun = {"server": server.url, "template": template, "folder": str(folder)}
    results = []
    with (
        (folder / "errors").open("w+", encoding="utf-8") as errors,
        subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("enumeration.py")), json.dumps(begun)],
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "LANG": "C.UTF-8",
                "PYTHONPATH": f"{ROOT}:{ROOT}/tests",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        ) as zygote,
    ):
        guard = threading.Timer(GUARD_SECONDS, os.killpg, [zygote.pid, signal.SIGKILL])
        guard.start()
        try:
            while True:
                zygote.stdin.write(json.dumps(orders.get_nowait()) + "\n")
                zygote.stdin.flush()
                answer = zygote.stdout.readline()
                assert answer, (folder / "errors").read_text(encoding="utf-8")[-4000:]
                results.append(json.loads(answer))
        except Empty:
            zygote.stdin.close()
            assert zygote.wait() == 0
        finally:
            guard.cancel()
            if zygote.poll() is None:
                os.killpg(zygote.pid, signal.SIGKILL)
    return results


def merge(results):
    """One line for each scenario from those of its parts."""
    merged = {}
    for part in results:
        whole = merged.setdefault(
            part["name"],
            part | dict.fromkeys(SUMS, 0) | {"points": 0, "ends": {}, "violations": []},
        )
        whole["points"] = max(whole["points"], part["points"])
        whole["violations"] += part["violations"]
        for name in SUMS:
            whole[name] += part[name]
        for status, n in part["ends"].items():
            whole["ends"][status] = whole["ends"].get(status, 0) + n
    return list(merged.values())


SUMS = ("runs", "unknown", "still_unknown", "seconds")


@pytest.mark.parametrize("webhooks", [False, True], ids=["polling", "callbacks"])
def test_no_crash_costs_twice_or_loses_a_picture(server, template, tmp_path, say, webhooks):
    names = [scenario.name for scenario in SCENARIOS if scenario.webhooks == webhooks]
    orders = SimpleQueue()
    for name in names:
        for first in range(1, PARTS + 1):
            orders.put({"scenario": name, "first": first, "step": PARTS})
    with ThreadPoolExecutor(ZYGOTES) as pool:
        zygotes = [
            pool.submit(
                work_off,
                orders,
                server=server,
                template=template,
                folder=tmp_path / f"zygote-{number}",
            )
            for number in range(ZYGOTES)
        ]
        results = merge([result for zygote in zygotes for result in zygote.result()])
    results.sort(key=lambda result: names.index(result["name"]))
    show(results, say=say)
    assert [result["name"] for result in results] == names
    assert [
        f"{result['name']}, {sentence}" for result in results for sentence in result["violations"]
    ] == []
    assert all(result["points"] > 20 for result in results)
    healthy = next(result for result in results if result["name"].startswith("healthy"))
    assert healthy["ends"] == {"completed": healthy["runs"]}


def show(results, *, say):
    say("")
    say(f"{'crash enumeration':<26} points  runs  passed unknown  left unknown  seconds  ends")
    for result in results:
        ends = ", ".join(f"{n} {status}" for status, n in sorted(result["ends"].items()))
        say(
            f"{result['name']:<26} {result['points']:>6} {result['runs']:>5} {result['unknown']:>15}"
            f" {result['still_unknown']:>13} {result['seconds']:>8.1f}  {ends}"
        )
    totals = [
        sum(result[key] for result in results)
        for key in ("points", "runs", "unknown", "still_unknown")
    ]
    say("{:<26} {:>6} {:>5} {:>15} {:>13}".format("all", *totals))
