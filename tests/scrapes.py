"""What Prometheus would see of a running house: `/metrics`, about once a second."""

import threading
import time

import urllib3
from prometheus_client.parser import text_string_to_metric_families

TOKEN = "for-the-scraper-0123456789"
BEARER = {"Authorization": f"Bearer {TOKEN}"}

TIMEOUT_SECONDS = 10
"""After which Prometheus gives up, unless told otherwise."""


def numbers(text):
    """Values by name and labels, as in `i2i_jobs{status=pending}`."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


class Scrapes:
    """Asks in a thread of its own, so that nothing else waits for a slow answer, until `end`.

    `taken` has of each scrape when it began, when it was answered, and its numbers, or None.
    """

    def __init__(self, url):
        self.taken = []
        self._url = f"{url}/metrics"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scrapes", daemon=True)
        self._thread.start()

    def _run(self):
        with urllib3.PoolManager(retries=False, timeout=TIMEOUT_SECONDS) as http:
            while not self._over.wait(1):
                begun = time.monotonic()
                try:
                    answer = http.request("GET", self._url, headers=BEARER)
                    found = numbers(answer.data.decode()) if answer.status == 200 else None
                except urllib3.exceptions.HTTPError:
                    found = None
                self.taken.append((begun, time.monotonic(), found))

    def first(self, shows, *, since):
        """Seconds from then until an answer that shows it, asked for after then; None: no such."""
        for begun, answered, found in list(self.taken):
            if begun >= since and found is not None and shows(found):
                return answered - since
        return None

    def newest(self, *, since=0.0):
        """The numbers of the last answer that came with a database, if it was asked for since then."""
        told = [
            found
            for begun, _, found in list(self.taken)
            if begun >= since and found and found["i2i_database_up"]
        ]
        return told[-1] if told else {}

    @property
    def unanswered(self):
        return sum(found is None for _, _, found in self.taken)

    def end(self):
        self._over.set()
        self._thread.join()
