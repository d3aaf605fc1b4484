"""Users of the running stack, made in its database: quick, and no sign-in counts against them."""

import itertools
import secrets

import factories
import psycopg
from routes import belongings

from i2i import passwords
from i2i.gateways.storage import make_storage
from i2i.queries import sessions, workflows


class Town:
    """Somebody who owns things, somebody else, an admin, and a passer-by, each with a client.

    Attributes:
        conn: a connection to the stack's database; what is written is there at once.
        things: ids of what `owner` has (routes.belongings). No worker touches it for a day.
        users: the rows of owner, other and admin, by that word.
    """

    def __init__(self, stack):
        self.stack = stack
        self.conn = psycopg.connect(stack.house.database, autocommit=True)
        folder = stack.house.folder
        storage = make_storage(f"file://{folder}/blobs", data_dir=folder)
        with self.conn.transaction():
            if not workflows.find(self.conn, workflow_id="basic-v1"):
                factories.make_workflow(self.conn)
            self.conn.execute("UPDATE workflow_configs SET is_active = true WHERE id = 'basic-v1'")
            self.users = {
                "owner": factories.make_user(self.conn),
                "other": factories.make_user(self.conn),
                "admin": factories.make_user(self.conn, role="admin"),
            }
            self.things = belongings(self.conn, storage, self.users["owner"])
            self.conn.execute(
                "UPDATE processing_jobs SET run_after = now() + interval '1 day'"
                " WHERE batch_id IN (SELECT id FROM batches WHERE user_id = %s)",
                [self.users["owner"].id],
            )

    def client(self, who="anonymous", *, source=None):
        """A client of the stack, from this address; anybody but "anonymous" is signed in."""
        client = self.stack.client(source=source)
        if who != "anonymous":
            token = secrets.token_urlsafe(16)
            sessions.create(
                self.conn,
                token_hash=passwords.hash_token(token),
                user_id=self.users[who].id,
                user_agent="",
                ip_address="127.0.0.1",
            )
            client.cookies["__Host-i2i"] = token
        return client

    def crowd(self, who="anonymous"):
        """Asks as this user, from several addresses in turn: nginx counts the requests of each."""
        clients = itertools.cycle([self.client(who, source=f"127.0.0.{n}") for n in range(2, 18)])
        return lambda *args, **options: next(clients).request(*args, **options)

    def snapshot(self):
        """What the owner has, who there is, and all workflows, as one value."""
        owner = self.users["owner"].id
        jobs = f"SELECT j.id FROM processing_jobs j JOIN batches b ON b.id = batch_id WHERE b.user_id = '{owner}'"
        rows = {
            "users": "true",
            "workflow_configs": "true",
            "workflow_versions": "true",
            "images": f"user_id = '{owner}'",
            "batches": f"user_id = '{owner}'",
            "presets": f"user_id = '{owner}'",
            "submissions": f"user_id = '{owner}'",
            "processing_jobs": f"id IN ({jobs})",
            "job_events": f"job_id IN ({jobs})",
        }
        return {
            table: self.conn.execute(
                f"SELECT t::text FROM {table} t WHERE {condition} ORDER BY 1"
            ).fetchall()
            for table, condition in rows.items()
        }
