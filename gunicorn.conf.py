"""How gunicorn serves i2i; read automatically from the checkout, options on its command line win.

One small machine: two processes of four threads. The pool of connections opens in each process
after the fork, and holds as many connections as there are threads.
"""

import os
import shutil
from itertools import count
from pathlib import Path

from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker

from i2i import embedded
from i2i.config import Settings
from i2i.errors import DatabaseUnavailable
from i2i.garbage import keep_what_stays
from i2i.logs import configure_logging

bind = "127.0.0.1:8000"
worker_class = "gthread"
workers = int(os.environ.get("WEB_CONCURRENCY") or 2)
threads = 4

# The application is imported once, before the fork: a wrong setting ends the program with its one
# line. Without it every worker would fail and be started again without end.
preload_app = True

# A worker process that is stuck for a minute is replaced. Reading an upload does not count: threads
# do that. A stop lets requests in hand finish. HUP renews the processes, not the program, which was
# imported before them: a new release needs a restart (i2i-web.socket keeps who comes meanwhile).
timeout = 60
graceful_timeout = 25
keepalive = 5

# A new batch names its photos in the address: some 180 of them, as much as gunicorn can take.
# More than a hundred headers, or one of more than 8 kB, are no browser's: 431.
limit_request_line = 8190
limit_request_fields = 100
limit_request_field_size = 8190

# Processes are renewed now and then, never all at once, so that no leak can grow for ever.
max_requests = 5000
max_requests_jitter = 1000

# Only TRUSTED_PROXIES decides whose X-Forwarded headers count (in the application).
forwarded_allow_ips = ""

# The proxy in front keeps the access log; LOG_LEVEL also rules gunicorn's own lines on stderr.
accesslog = None
loglevel = (os.environ.get("LOG_LEVEL") or "info").lower()

# Two instances of one user would otherwise share a control socket in the home folder.
control_socket_disable = True

if Path("/dev/shm").is_dir():  # noqa: S108 - a heartbeat file must not wait for a disk
    worker_tmp_dir = "/dev/shm"  # noqa: S108


def pre_fork(server: Arbiter, worker: Worker) -> None:
    """A process gets the first place that is free, for as long as it lives (`post_fork`)."""
    keep_what_stays()
    taken = {other.place for other in server.WORKERS.values()}
    worker.place = next(place for place in count() if place not in taken)


class Log(Logger):
    """gunicorn's lines go where the application's go, in LOG_FORMAT."""

    def setup(self, cfg: Config) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


logger_class = Log

# Here, because the hook `on_starting` runs after the application has been imported.
try:
    settings = Settings.from_env(os.environ)
    configure_logging(settings)
    embedded.with_database(settings)
except DatabaseUnavailable as error:
    raise SystemExit(f"i2i: {error}") from None

# The processes count requests in files of one folder, which begins empty: counters start at 0.
if settings.metrics_token is not None:
    _counted = settings.data_dir / "metrics"
    shutil.rmtree(_counted, ignore_errors=True)
    _counted.mkdir(parents=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(_counted)


def post_fork(_server: Arbiter, worker: Worker) -> None:
    """It counts on in the files of whoever had its place: renewing processes leaves none behind."""
    if settings.metrics_token is not None:
        from i2i.web.prometheus import count_at  # noqa: PLC0415 - for those who want it

        count_at(worker.place)
