"""A script with a token does what its user may do, and nothing with accounts or for operators."""

import os
import subprocess
import zipfile

import factories
import house as houses
import pictures
import pytest
from house import House

from i2i.config import ROOT
from i2i.services import tokens

JSON = {"Accept": "application/json"}


@pytest.fixture
def script(app, conn, owner):
    """A client without cookies and without what browsers send of themselves."""
    token, row = tokens.create(conn, email=owner.email, name="script")
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    client.token_id = row.id
    return client


def test_it_reads_and_writes_as_its_user(script, conn, owner, other):
    own, foreign = factories.make_job(conn, user=owner), factories.make_job(conn, user=other)
    assert script.get(f"/jobs/{own.id}", headers=JSON).status_code == 200
    assert script.get(f"/jobs/{foreign.id}", headers=JSON).status_code == 404
    answer = script.post(f"/jobs/{own.id}/cancel", headers=JSON)
    assert answer.status_code in {200, 303, 409}
    (used,) = conn.execute(
        "SELECT last_used_at FROM tokens WHERE id = %s", [script.token_id]
    ).fetchone()
    assert used is not None


@pytest.mark.parametrize("path", ["/account", "/account/password", "/admin/health", "/admin/users"])
def test_it_opens_no_account_and_nothing_of_operators(script, conn, owner, path):
    conn.execute("UPDATE users SET role = 'admin' WHERE id = %s", [owner.id])
    assert script.get(path, headers=JSON).status_code == 403


@pytest.mark.parametrize(
    "end",
    [
        "UPDATE tokens SET revoked_at = now()",
        "UPDATE tokens SET expires_at = now()",
        "UPDATE users SET is_whitelisted = false",
        "UPDATE users SET password_expires_at = now()",
    ],
)
def test_it_ends(script, conn, end):
    assert script.get("/jobs", headers=JSON).status_code == 200
    conn.execute(end)
    answer = script.get("/jobs", headers=JSON)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].lower() == "bearer"


def test_a_generated_password_is_changed_first(script, conn):
    conn.execute("UPDATE users SET password_expires_at = now() + interval '1 hour'")
    assert script.get("/jobs", headers=JSON).status_code == 403


@pytest.mark.parametrize(
    "header", ["Bearer", "Bearer ", "Bearer i2i_wrong", "Bearer \x80\xff", "Bearer a b"]
)
def test_what_is_no_token(app, header):
    answer = app.test_client().get("/jobs", headers=JSON | {"Authorization": header})
    assert answer.status_code == 401


def test_a_cookie_beside_it_is_a_browser(script, conn, owner):
    """A page of another site cannot send a token, but its requests may bring the cookie along."""
    job = factories.make_job(conn, user=owner)
    script.set_cookie("i2i", "anything")
    answer = script.post(f"/jobs/{job.id}/cancel", headers=JSON | {"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403


def test_the_example_makes_pictures_of_a_folder(database, tmp_path):
    """docs/examples/shoot-folder.sh, on running pages, a worker and the practice server."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(2):
        (photos / f'IMG_000{number} é, "a;b".jpg').write_bytes(
            pictures.jpeg(pictures.photo(size=(300, 400 + number)))
        )
    house = House(database=database, folder=tmp_path / "house", practice_seconds=0).open()
    try:
        house.make_user()
        token = house.flask("tokens", "create", houses.EMAIL, "--name", "example")
        (tmp_path / "token").write_text(token)
        environ = {
            "I2I_URL": house.url,
            "I2I_TOKEN_FILE": str(tmp_path / "token"),
            "I2I_SECONDS": "0.2",
        }
        done = subprocess.run(
            [ROOT / "docs/examples/shoot-folder.sh", photos, tmp_path / "results.zip"],
            env={"PATH": os.environ["PATH"], **environ},
            capture_output=True, text=True, check=False, timeout=houses.PATIENCE * 5,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr + done.stdout
        with zipfile.ZipFile(tmp_path / "results.zip") as found:
            assert len(found.namelist()) == 3  # two pictures and manifest.csv
    finally:
        house.stop()
