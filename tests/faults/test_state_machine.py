"""Whatever users, workers and fal do, in whatever order: no illegal step, and the invariants hold.

hypothesis makes up the stories from a fixed seed and shortens those that fail. Real PostgreSQL, a
real practice server over HTTP; only time is moved by `now`.
"""

import contextlib
import logging
import secrets
import select
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import factories
import pictures
import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from invariants import token_of, violations
from psycopg_pool import ConnectionPool

from i2i import practice as practice_module
from i2i.errors import InvalidFields, Refused
from i2i.gateways.fal import HttpFal
from i2i.gateways.storage import make_storage
from i2i.practice import PracticeServer
from i2i.services import batches as batch_service
from i2i.services import jobs as job_service
from i2i.services import users as user_service
from i2i.services.batches import Order
from i2i.worker import Worker

pytestmark = pytest.mark.heavy

PHOTO = pictures.jpeg(pictures.photo(size=(64, 48)))

FAULTS = [
    *("lost_answer", "refuse_429", "server_error", "bad_gateway_nginx", "locked"),
    *("unprocessable", "nsfw", "model_error", "never", "upload_error", "result_504"),
]

JOB = st.integers(min_value=0, max_value=9)
LATER = st.sampled_from([0.0, 90.0, 400.0, 1000.0, 5000.0, 90_000.0])


class KilledError(BaseException):
    """Ends a step as a kill does: no handler runs."""


class MortalFal(HttpFal):
    """fal for a worker that can be killed just before or just after its POST."""

    kill = None

    def submit(self, *args, **kwargs):
        if self.kill == "before":
            raise KilledError
        answer = super().submit(*args, **kwargs)
        if self.kill == "after":
            raise KilledError
        return answer


class Story(RuleBasedStateMachine):
    """Two users, one or two jobs at a time, one worker that dies now and then."""

    house = None

    def __init__(self):
        super().__init__()
        self.stack = contextlib.ExitStack()
        self.database, self.settings_of = self.house()
        folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.practice = self.stack.enter_context(PracticeServer(folder / "practice", seconds=0))
        urls = dict.fromkeys(
            ("FAL_QUEUE_URL", "FAL_REST_URL", "FAL_PLATFORM_URL", "FAL_MEDIA_HOSTS"),
            self.practice.url,
        )
        self.settings = self.settings_of(
            POSTGRES_URL=self.database, DATA_DIR=str(folder / "data"), **urls
        )
        self.storage = make_storage(self.settings.blob_url, data_dir=self.settings.data_dir)
        self.conn = self.stack.enter_context(psycopg.connect(self.database, autocommit=True))
        self.pool = self.stack.enter_context(
            ConnectionPool(self.database, min_size=1, max_size=3, kwargs={"autocommit": True})
        )
        self.fal = MortalFal(self.settings, submit_seconds=5)
        self.worker = Worker(self.settings, pool=self.pool, fal=self.fal, storage=self.storage)
        self.user = factories.make_user(self.conn, email="owner@example.com")
        self.photo = factories.make_image(
            self.conn, user=self.user, data=PHOTO, storage=self.storage, size=(64, 48)
        )
        self.workflow = factories.make_workflow(self.conn)
        self.resends = {}
        self.keys = []
        self.create(again=False, pilot=0)

    # --- what users do

    @rule(again=st.booleans(), pilot=st.integers(min_value=0, max_value=1))
    def create(self, again, pilot):
        """A click, or the same click again, which must not make anything new."""
        before = self.count()
        key = self.keys[-1] if again and self.keys else secrets.token_hex(8)
        order = Order(
            user_id=self.user.id,
            workflow_id=self.workflow.id,
            image_ids=[self.photo.id],
            reference_ids=[],
            parameters={"setting": "studio white"},
            variations=1,
            pilot=pilot,
            client_key=key,
        )
        known = key in self.keys
        if before >= 6 and not known:
            return
        with contextlib.suppress(InvalidFields):
            batch_service.create(self.conn, self.settings, order=order)
        self.keys.append(key)
        assert self.count() == before + (0 if known else 1)

    @rule(job=JOB)
    def cancel(self, job):
        self.act(job, job_service.cancel)

    @rule(job=JOB)
    def retry(self, job):
        self.act(job, job_service.retry, self.settings, costs=True)

    @rule(job=JOB)
    def look_again(self, job):
        self.act(job, job_service.look_again)

    @rule(job=JOB)
    def send_again(self, job):
        self.act(job, job_service.send_again, self.settings, costs=True)

    @rule(job=JOB)
    def give_up(self, job):
        self.act(job, job_service.give_up)

    @rule()
    def release(self):
        for (batch_id,) in self.conn.execute("SELECT id FROM batches").fetchall():
            batch_service.release(self.conn, batch_id=batch_id, user_id=self.user.id)

    @rule(allowed=st.booleans())
    def whitelist(self, allowed):
        user_service.set_whitelisted(self.conn, email=self.user.email, is_whitelisted=allowed)

    def act(self, number, work, *args, costs=False):
        """One action of the owner on one job; what is refused changes nothing."""
        found = self.conn.execute("SELECT id FROM processing_jobs ORDER BY created_at").fetchall()
        (job_id,) = found[number % len(found)]
        before = self.events()
        try:
            work(self.conn, *args, job_id=job_id, user_id=self.user.id)
        except Refused:
            assert self.events() == before
        else:
            if costs:
                self.resends[job_id] = self.resends.get(job_id, 0) + 1

    # --- what workers and fal do

    @rule(mode=st.sampled_from(FAULTS))
    def spoil(self, mode):
        self.practice.books.add_fault({"mode": mode, "count": 1})

    @rule(later=LATER)
    def work(self, later):
        for step in self.claim(later):
            step()
        self.let_fal_finish()

    @rule(later=LATER)
    def vanish_after_claim(self, later):
        """A worker claims, and is never seen again."""
        self.claim(later)
        self.forget_decoders()

    @rule(later=LATER, moment=st.sampled_from(["before", "after"]))
    def vanish_around_post(self, later, moment):
        """A worker dies between `sent` and the POST, or between the answer and its record."""
        self.fal.kill = moment
        try:
            for step in self.claim(later):
                with contextlib.suppress(KilledError):
                    step()
        finally:
            self.fal.kill = None
        self.let_fal_finish()

    def claim(self, later):
        return self.worker.claim(room=4, now=datetime.now(UTC) + timedelta(seconds=later))

    def forget_decoders(self):
        """The dead worker's memory is gone with it."""
        self.worker = Worker(self.settings, pool=self.pool, fal=self.fal, storage=self.storage)

    def let_fal_finish(self):
        books = self.practice.books
        while any(each.state != "COMPLETED" and each.fault != "never" for each in books.listed()):
            select.select([], [], [], 0.002)

    # --- what always holds

    @invariant()
    def nothing_is_broken(self):
        found = violations(
            self.database,
            blobs=self.storage.root,
            requests=self.requests(),
            at_rest=False,
            resends=self.resends,
        )
        assert found == []

    def requests(self):
        """As `GET /ledger` tells."""
        return [
            {
                "request_id": each.request_id,
                "input_file": practice_module.file_name(
                    practice_module.input_urls(each.arguments)[0]
                ),
                "charged": each.charged,
            }
            for each in self.practice.books.listed()
        ]

    def count(self):
        return self.conn.execute("SELECT count(*) FROM processing_jobs").fetchone()[0]

    def events(self):
        return self.conn.execute("SELECT count(*) FROM job_events").fetchone()[0]

    def teardown(self):
        """In the end a patient worker brings everything to rest."""
        self.practice.books.clear_faults()
        user_service.set_whitelisted(self.conn, email=self.user.email, is_whitelisted=True)
        try:
            self.release()
            for later in (6000.0, 100_000.0, 200_000.0, 300_000.0, 400_000.0, 500_000.0):
                self.work(later)
                self.work(later)
            found = violations(
                self.database,
                blobs=self.storage.root,
                requests=self.requests(),
                resends=self.resends,
            )
            assert found == []
            tokens = [token_of(each) for each in self.requests()]
            assert len(tokens) == len(set(tokens))
        finally:
            self.stack.close()


@pytest.fixture
def quick_practice(monkeypatch):
    """Pictures of a stamp's size."""
    monkeypatch.setattr(practice_module, "LONG_SIDE", 64)


def test_no_story_breaks_the_invariants(copies, admin_conn, make_settings, quick_practice):
    made = []

    def house():
        made.append(copies())
        return made[-1], make_settings

    story = type("Story", (Story,), {"house": staticmethod(house)})
    logging.getLogger("i2i.worker").disabled = True
    try:
        run_state_machine_as_test(
            story,
            settings=settings(
                max_examples=30,
                stateful_step_count=25,
                derandomize=True,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        logging.getLogger("i2i.worker").disabled = False
        for url in made:
            admin_conn.execute(f"DROP DATABASE {urlsplit(url).path[1:]} WITH (FORCE)")
