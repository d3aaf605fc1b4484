"""Asks I2I_JOURNEY_URL twenty times a second until a file is there; exit 1 if a request failed."""

import os
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import urllib3

URL = os.environ["I2I_JOURNEY_URL"]
A_SECOND = 20

http = urllib3.PoolManager(
    retries=False, timeout=60, maxsize=200, ca_certs=os.environ["I2I_JOURNEY_CERTIFICATE"]
)

page = http.request("GET", f"{URL}/login").data.decode()
style = re.findall(r'href="(/[^"]+\.css)"', page)
paths = ["/login", "/readyz", *style, "/healthz"]


def ask(number: int) -> tuple[float, str | None]:
    """How long one request took, and what was wrong with its answer, if anything."""
    begin = time.monotonic()
    path = paths[number % len(paths)]
    try:
        status = http.request("GET", URL + path).status
        wrong = None if status == 200 else f"{path}: {status}"
    except urllib3.exceptions.HTTPError as error:
        wrong = f"{path}: {error}"
    return time.monotonic() - begin, wrong


print("asking", flush=True)
asked = []
begin = time.monotonic()
with ThreadPoolExecutor(200) as threads:
    while not Path(sys.argv[1]).exists():
        asked.append(threads.submit(ask, len(asked)))
        time.sleep(max(0, begin + len(asked) / A_SECOND - time.monotonic()))
answers = [future.result() for future in asked]

wrong = [each for _, each in answers if each]
slowest = max(took for took, _ in answers)
print(f"{len(answers)} requests, {len(wrong)} failed, the slowest took {slowest:.1f} s")
print(*wrong[:5], sep="\n")
sys.exit(bool(wrong))
