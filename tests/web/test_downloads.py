"""Downloads: one picture, a batch, a selection; parts of them, and only for their owner."""

import io
import re
import zipfile

import factories
import pytest

from i2i.queries import images, jobs
from i2i.web import downloads


@pytest.fixture
def batch(app, conn, owner):
    """Three finished pictures of one photo, their bytes, and one that waits."""
    photo = factories.make_image(conn, user=owner, name="coat.jpg")
    made = factories.make_batch(conn, user=owner, photos=[photo], variations=4)
    root = app.extensions["i2i"].storage.root
    for job in factories.jobs_of(conn, made)[:3]:
        factories.move(conn, job, user=owner, status="completed")
        finished = jobs.find(conn, job_id=job.id)
        result = images.find(conn, image_id=finished.result_image_id, user_id=owner.id)
        path = root / result.blob_url
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes([job.position]) * result.file_size)
        conn.execute(
            "UPDATE images SET original_filename = %s WHERE id = %s",
            [f"coat_basic-v1_{job.number}.png", result.id],
        )
    return made


def names_in(answer):
    with zipfile.ZipFile(io.BytesIO(answer.data)) as packed:
        assert packed.testzip() is None
        return packed.namelist()


def test_a_batch_with_its_manifest(as_owner, batch):
    answer = as_owner.get(f"/batches/{batch.id}.zip")
    assert (answer.status_code, answer.mimetype) == (200, "application/zip")
    assert answer.content_length == len(answer.data)
    assert re.fullmatch(
        r"attachment; filename=batch-\d{4}-\d\d-\d\d-\d{4}\.zip",
        answer.headers["Content-Disposition"],
    )
    assert names_in(answer) == [
        *(f"coat_basic-v1_{number}.png" for number in (1, 2, 3)),
        "manifest.csv",
    ]


def test_only_the_approved_ones(as_owner, conn, owner, batch):
    ids = [job.id for job in factories.jobs_of(conn, batch)]
    for job_id, verdict in zip(ids, ["approved", "rejected"], strict=False):
        jobs.judge(conn, job_id=job_id, user_id=owner.id, verdict=verdict, reason=None, note="")
    for verdict, number in [("approved", 1), ("rejected", 2), ("none", 3)]:
        answer = as_owner.get(f"/batches/{batch.id}.zip?verdict={verdict}")
        assert names_in(answer) == [f"coat_basic-v1_{number}.png", "manifest.csv"]
        assert f"-{verdict}.zip" in answer.headers["Content-Disposition"]
    assert as_owner.get(f"/batches/{batch.id}.zip?verdict=lovely").status_code == 404


def test_a_selection(as_owner, as_other, conn, batch):
    first, _, third, waiting = (job.id for job in factories.jobs_of(conn, batch))
    path = f"/jobs.zip?job={third}&job={first}&job={waiting}"
    assert names_in(as_owner.get(path)) == [
        *("coat_basic-v1_1.png", "coat_basic-v1_3.png", "manifest.csv")
    ]
    refused = as_other.get(path)
    assert refused.status_code == 409
    assert "no picture to download" in refused.text
    assert as_owner.get(f"/jobs.zip?job={waiting}").status_code == 409
    assert as_owner.get("/jobs.zip?job=nonsense").status_code == 404


def test_a_broken_download_goes_on_where_it_was(as_owner, batch):
    path = f"/batches/{batch.id}.zip"
    whole = as_owner.get(path)
    half = len(whole.data) // 2
    etag = whole.headers["ETag"]
    rest = as_owner.get(path, headers={"Range": f"bytes={half}-", "If-Range": etag})
    assert rest.status_code == 206
    assert rest.headers["Content-Range"] == f"bytes {half}-{len(whole.data) - 1}/{len(whole.data)}"
    assert whole.data[:half] + rest.data == whole.data
    changed = as_owner.get(path, headers={"Range": f"bytes={half}-", "If-Range": '"old"'})
    assert (changed.status_code, changed.data) == (200, whole.data)
    beyond = as_owner.get(path, headers={"Range": f"bytes={len(whole.data)}-"})
    assert beyond.status_code == 416
    assert as_owner.get(path, headers={"If-None-Match": etag}).status_code == 304


def test_as_many_at_once_as_there_is_room_for(as_owner, batch):
    path = f"/batches/{batch.id}.zip"
    sent = [as_owner.get(path, buffered=False) for _ in range(downloads.AT_ONCE)]
    busy = as_owner.get(path)
    assert (busy.status_code, busy.headers["Retry-After"]) == (503, str(downloads.RETRY_SECONDS))
    assert "Other downloads" in busy.text
    for answer in sent:
        answer.close()
    assert as_owner.get(path).status_code == 200
    assert as_owner.head(path).status_code == 200
    assert as_owner.get(path).status_code == 200


def test_no_connection_is_held_while_it_is_sent(as_owner, app, batch):
    database = app.extensions["i2i"].database
    out, pool = [], database._pool

    class Counting:
        def getconn(self):
            out.append(pool.getconn())
            return out[-1]

        def putconn(self, conn):
            out.pop()
            pool.putconn(conn)

    database.use(Counting())
    answer = as_owner.get(f"/batches/{batch.id}.zip", buffered=False)
    assert out == []
    assert next(answer.iter_encoded())
    assert out == []
    answer.close()


def test_two_jobs_of_a_photo_never_share_a_name(conn, owner, batch):
    """Numbers go on where the photo's pictures with this workflow ended."""
    (photo,) = images.list_of_batch(conn, batch_id=batch.id, user_id=owner.id)
    again = factories.make_batch(conn, user=owner, photos=[photo], variations=2)
    other = factories.make_batch(
        conn, user=owner, photos=[photo], workflow=factories.make_workflow(conn, id="other-v1")
    )
    numbers = [
        [job.number for job in factories.jobs_of(conn, each)] for each in (batch, again, other)
    ]
    assert numbers == [[1, 2, 3, 4], [5, 6], [1]]
