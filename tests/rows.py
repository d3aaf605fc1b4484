"""Counts the rows of the checklist that hold; a plugin of pytest, which `make security` names.

A row NN holds when it has tests, `test_row_NN_…`, and all of them passed.
"""

import re
from collections import defaultdict

ROWS = 70

outcomes = defaultdict(set)


def pytest_runtest_logreport(report):
    found = re.search(r"::test_row_(\d\d)_", report.nodeid)
    if found and (report.when == "call" or not report.passed):
        outcomes[int(found[1])].add(report.outcome)


def pytest_terminal_summary(terminalreporter):
    rows = range(1, ROWS + 1)
    held = [row for row in rows if outcomes[row] == {"passed"}]
    for words, chosen in (
        ("Not passed", [row for row in rows if outcomes[row] - {"passed"}]),
        ("Without a test", [row for row in rows if not outcomes[row]]),
    ):
        if chosen:
            terminalreporter.write_line(f"{words}: {', '.join(map(str, chosen))}")
    terminalreporter.write_line(f"{len(held)} / {ROWS} rows hold")
