"""A worker is killed at each of its network and commit points, whatever fal does meanwhile."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from enumeration import SCENARIOS

from i2i.config import ROOT

pytestmark = pytest.mark.heavy

GUARD_SECONDS = 1200


def run_scenarios(names, *, server, template, folder):
    """One zygote's work: the results of these scenarios."""
    folder.mkdir()
    order = {
        "server": server.url,
        "template": template,
        "folder": str(folder),
        "scenarios": names,
    }
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("enumeration.py")), json.dumps(order)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONPATH": f"{ROOT}:{ROOT}/tests"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=GUARD_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("webhooks", [False, True], ids=["polling", "callbacks"])
def test_no_crash_costs_twice_or_loses_a_picture(server, template, tmp_path, request, webhooks):
    names = [scenario.name for scenario in SCENARIOS if scenario.webhooks == webhooks]
    with ThreadPoolExecutor(2) as pool:
        halves = [
            pool.submit(
                run_scenarios,
                names[half::2],
                server=server,
                template=template,
                folder=tmp_path / f"zygote-{half}",
            )
            for half in range(2)
        ]
        results = [result for half in halves for result in half.result()]
    show(results, say=request.config.pluginmanager.getplugin("terminalreporter").write_line)
    assert {result["name"] for result in results} == set(names)
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
            f" {result['still_unknown']:>13} {result['seconds']:>8}  {ends}"
        )
    totals = [
        sum(result[key] for result in results)
        for key in ("points", "runs", "unknown", "still_unknown")
    ]
    say("{:<26} {:>6} {:>5} {:>15} {:>13}".format("all", *totals))
