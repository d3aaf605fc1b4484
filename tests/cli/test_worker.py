"""flask worker and flask practice-fal, as real processes."""

import io
import json
import signal
import urllib.request
from pathlib import Path

import pytest
from factories import make_image, make_user
from house import free_port, wait_until
from PIL import Image

from i2i.config import Settings
from i2i.db import MIGRATIONS_DIR
from i2i.gateways.fal import HttpFal
from i2i.gateways.storage import make_storage
from i2i.queries import workers


@pytest.fixture
def store(environ):
    """Where the processes keep their bytes."""
    folder = Path(environ["DATA_DIR"])
    return make_storage(f"file://{folder}/blobs", data_dir=folder)


def photo(colour):
    data = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(data, "JPEG")
    return data.getvalue()


@pytest.fixture
def upload(db_conn, store):
    """Add a photo as the web process does, announcement included; its id."""
    user = make_user(db_conn)
    numbers = iter(range(100))

    def add():
        data = photo((next(numbers), 90, 30))
        image = make_image(db_conn, user=user, status="preparing", data=data, storage=store)
        db_conn.execute("NOTIFY i2i_work")
        return image.id

    return add


@pytest.fixture
def is_ready(db_conn):
    def ask(image_id):
        row = db_conn.execute("SELECT status FROM images WHERE id = %s", [image_id]).fetchone()
        return row == ("ready",)

    return ask


def listener(connection):
    """The server process of the worker's LISTEN connection, once it listens."""
    row = connection.execute(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'i2i listen'"
        " AND datname = current_database() AND query = 'LISTEN i2i_work'"
    ).fetchone()
    return row and row[0]


def test_once_does_what_is_there_and_ends(finish, database, upload, is_ready):
    image_id = upload()
    code, out, _ = finish("worker", "--once", POSTGRES_URL=database)
    assert (code, out) == (0, "1 step done.\n")
    assert is_ready(image_id)


def test_it_hears_of_work_reconnects_and_stops_at_sigterm(
    start, database, db_conn, upload, is_ready
):
    # A poll once a minute: within the test only notifications can bring the work.
    process = start("worker", POSTGRES_URL=database, WORKER_POLL_SECONDS="60", LOG_FORMAT="json")
    first = wait_until(lambda: listener(db_conn), what="LISTEN")
    image_id = upload()
    wait_until(lambda: is_ready(image_id), what="the first photo")

    db_conn.execute("SELECT pg_terminate_backend(%s)", [first])
    wait_until(lambda: listener(db_conn) not in {None, first}, what="the second LISTEN")
    image_id = upload()
    wait_until(lambda: is_ready(image_id), what="the second photo")

    assert [row.process_id for row in workers.list_all(db_conn)] == [process.pid]
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert workers.list_all(db_conn) == []
    lines = [json.loads(line) for line in err.splitlines()]
    assert lines[-1]["message"] == "the worker has stopped"
    assert any(line["message"].startswith("not listening") for line in lines)
    assert all(line["time"].endswith("Z") for line in lines)


def test_ctrl_c_ends_it_as_well(start, database, db_conn):
    process = start("worker", POSTGRES_URL=database)
    wait_until(lambda: listener(db_conn), what="LISTEN")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "No fal key is set" in err
    assert "Traceback" not in err


def test_it_does_not_start_on_an_old_schema(finish, flask, database):
    flask("db", "rollback", "--all")
    code, out, err = finish("worker", POSTGRES_URL=database)
    assert (code, out) == (1, "")
    missing = ", ".join(
        sorted(
            path.stem
            for path in MIGRATIONS_DIR.glob("*.sql")
            if not path.stem.endswith(".rollback")
        )
    )
    assert err == f"i2i: The database misses {missing}. Run: flask db migrate\n"


def test_practice_fal_serves_and_keeps_its_ledger_over_a_kill(start, environ):
    port = free_port()
    process = start("practice-fal", "--port", str(port), "--seconds", "0")
    assert f"http://127.0.0.1:{port}" in process.stdout.readline()
    origin = f"http://127.0.0.1:{port}"
    names = ["FAL_QUEUE_URL", "FAL_REST_URL", "FAL_PLATFORM_URL", "FAL_MEDIA_HOSTS"]
    fal = HttpFal(Settings.from_env(environ | dict.fromkeys(names, origin)))
    url = fal.upload(
        name="a.jpg", data=photo("navy"), content_type="image/jpeg", keep_alive=lambda: None
    )
    request_id = fal.submit(
        "fal-ai/qwen-image-edit-2511", {"image_urls": [url], "prompt": "A coat."}
    ).request_id
    process.kill()
    process.wait()

    again = start("practice-fal", "--port", str(port))
    again.stdout.readline()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/ledger") as response:
        ledger = json.load(response)
    assert [each["request_id"] for each in ledger["requests"]] == [request_id]
    taken = start("practice-fal", "--port", str(port))
    _, err = taken.communicate(timeout=60)
    assert (taken.returncode, err.count("\n")) == (1, 1)
    assert f"Port {port} of 127.0.0.1 cannot be used" in err
    again.send_signal(signal.SIGTERM)
    assert again.wait(60) == 0
