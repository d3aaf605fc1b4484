"""The numbers for Prometheus. Alone knows prometheus_client.

How the site stands is asked of the database at each scrape; requests are counted by the web
processes of this machine. Without a database it answers too: i2i_database_up is 0, which is what
somebody wants to know then.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, values
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from i2i.errors import DatabaseUnavailable, StorageError
from i2i.gateways.storage import space
from i2i.models import ImageBytes, JobStatus, SubmissionCount
from i2i.queries import images, submissions
from i2i.services import health
from i2i.services.health import Health
from i2i.web import database
from i2i.web.state import State

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds up to which requests are counted together."""

FINISHED = {JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED}


def count_at(place: int) -> None:
    """Count in the files of this place, in a process of several; its first request comes later.

    Two living processes never have the same place (gunicorn.conf.py). Files by process id, as
    usual, would be two more for each process that is renewed, all of them read at each scrape.
    """
    values.ValueClass = values.MultiProcessValue(lambda: place)  # type: ignore[no-untyped-call]


class Meter:
    """Counts requests, and writes down all numbers."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "i2i_http_requests",
            "Answers given; without a route it is no page of ours.",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "i2i_http_request_seconds",
            "From the head of a request to the head of its answer.",
            ["route"],
            buckets=BUCKETS,
            registry=self._registry,
        )

    def count(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """One answer was given."""
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def render(self, state: State) -> tuple[bytes, str]:
        """The text of one scrape, and its content type."""
        site = CollectorRegistry(auto_describe=False)
        site.register(_Site(state))
        return generate_latest(self._of_all_processes()) + generate_latest(site), (
            CONTENT_TYPE_LATEST
        )

    def _of_all_processes(self) -> CollectorRegistry:
        """What gunicorn's processes have counted, in files that they share (gunicorn.conf.py)."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return self._registry
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return registry


class _Site(Collector):
    """Gauges of the whole site, the same from every machine."""

    def __init__(self, state: State) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("i2i_database_up", "Whether the database answers this process.")
        try:
            with database.lend() as conn:
                standing = health.read(conn)
                sent = submissions.count_outcomes(conn)
                kept = images.sum_bytes(conn)
        except (DatabaseUnavailable, psycopg.Error):
            up.add_metric([], 0)
            yield up
        else:
            up.add_metric([], 1)
            yield up
            yield from _of_jobs(standing, limit=self._state.settings.max_in_flight)
            yield from _of_money(standing, sent, limit=self._state.settings.daily_pictures)
            yield from _of_workers(standing)
            yield from _of_bytes(kept)
            yield _of_backup(standing)
        yield from _of_disk(self._state.settings.data_dir)


def _gauge(name: str, help_: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_, value=value)


def _of_jobs(standing: Health, *, limit: int) -> Iterator[Metric]:
    counted = {each.status: each for each in standing.queue}
    jobs = GaugeMetricFamily("i2i_jobs", "Pictures by state.", labels=["status"])
    oldest = GaugeMetricFamily(
        "i2i_jobs_oldest_seconds", "Age of the oldest unfinished one.", labels=["status"]
    )
    for status in JobStatus:
        row = counted.get(status)
        jobs.add_metric([status], row.count if row else 0)
        if status not in FINISHED:
            oldest.add_metric([status], row.oldest_seconds if row else 0)
    yield jobs
    yield oldest
    yield _gauge("i2i_jobs_in_flight", "Pictures sent or being sent.", standing.in_flight)
    yield _gauge("i2i_jobs_in_flight_limit", "MAX_IN_FLIGHT.", limit)
    attention = sum(each.count for each in standing.attention)
    yield _gauge("i2i_jobs_attention", "Pictures that wait for a person.", attention)


def _of_money(standing: Health, sent: list[SubmissionCount], *, limit: int) -> Iterator[Metric]:
    # Gauges, all of them: a lost answer may be found, and a charge become known, long afterwards.
    requests = GaugeMetricFamily(
        "i2i_submissions", "Paid requests by what became of them.", labels=["outcome", "charged"]
    )
    for each in sent:
        requests.add_metric([each.outcome, each.charged], each.count)
    yield requests
    charged = float(sum(each.cost for each in sent if each.charged == "yes"))
    yield _gauge("i2i_charged_dollars", "What fal has charged for.", charged)
    perhaps = float(sum(each.cost for each in sent if each.charged == "unknown"))
    yield _gauge("i2i_perhaps_charged_dollars", "What it has perhaps charged for.", perhaps)
    yield _gauge("i2i_pictures_today", "Pictures of this day, UTC.", standing.counted_today)
    yield _gauge("i2i_pictures_today_limit", "DAILY_PICTURES.", limit)
    is_open = standing.breaker.opened_at is not None
    yield _gauge("i2i_breaker_open", "Whether sending is paused for the account's sake.", is_open)


def _of_workers(standing: Health) -> Iterator[Metric]:
    yield _gauge("i2i_workers", "Workers heard of just now.", len(standing.living))
    silent = GaugeMetricFamily(
        "i2i_worker_silent_seconds", "Since a worker was heard of.", labels=["host", "process"]
    )
    trouble = GaugeMetricFamily(
        "i2i_worker_trouble", "Whether a living worker sends nothing.", labels=["host", "process"]
    )
    for row in standing.workers:
        labels = [row.host, str(row.process_id)]
        silent.add_metric(labels, row.silent_seconds)
        trouble.add_metric(labels, row.trouble is not None and row in standing.living)
    yield silent
    yield trouble


def _of_bytes(kept: list[ImageBytes]) -> Iterator[Metric]:
    stored = GaugeMetricFamily("i2i_stored_bytes", "Bytes of pictures.", labels=["kind"])
    images = GaugeMetricFamily("i2i_images", "Pictures kept.", labels=["kind"])
    for each in kept:
        kind = "result" if each.is_processed else "upload"
        stored.add_metric([kind], each.stored_bytes)
        images.add_metric([kind], each.count)
    yield stored
    yield images


def _of_backup(standing: Health) -> Metric:
    age = standing.backup.age_seconds if standing.backup else float("inf")
    return _gauge("i2i_backup_age_seconds", "Of the newest backup that was found whole.", age)


def _of_disk(folder: Path) -> Iterator[Metric]:
    try:
        disk = space(folder)
    except StorageError:
        return
    yield _gauge("i2i_disk_free_bytes", "Room on the disk of DATA_DIR.", disk.free)
    yield _gauge("i2i_disk_bytes", "Size of the disk of DATA_DIR.", disk.total)
