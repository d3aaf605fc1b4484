"""Rows 30 to 39: what may be sent, how much of it, what is kept of it, and how it is given out."""

import ctypes
import io
import os
import re
import resource
import shutil
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import hostile
import pictures
import psycopg
import pytest
from feeding import BOUNDARY, CONTENT_TYPE, feed, multipart
from hostile import Hostile
from house import wait_until
from PIL import Image

from i2i.config import ROOT
from i2i.web.uploads import clean_filename

SECONDS = 5
MEGABYTES = 512
"""What one file may cost: seconds of a core, and what its decoder holds."""

LIMIT = 25_000_000
QUOTA = 20_000_000_000
"""MAX_UPLOAD_MB and STORAGE_QUOTA_MB, as they are where nobody sets them."""

SIZES = ["", "?size=thumb", "?size=preview"]

STORED = re.compile(
    r"users/[0-9a-f-]{36}/[0-9a-f-]{36}/(original\.(jpg|png|webp)|(thumb|preview)\.webp)"
    # The worker writes smaller pictures while tests look: a file being stored has a random name.
    r"|\.partial/[0-9a-f]{32}"
)


def poster(visitor):
    """Sends a multipart body to POST /images."""
    headers = {"Content-Type": CONTENT_TYPE}
    return lambda body: visitor.request("POST", "/images", body=body, headers=headers)


def show(visitor, url):
    return visitor.request("GET", url, headers={"Accept": "image/*"})


def photo(*words):
    """A good photo that is like no other."""
    comment = b"%d %s" % (time.monotonic_ns(), repr(words).encode())
    return pictures.jpeg(pictures.photo(size=(120, 80)), comment=comment)


def of_size(size):
    """A good photo of that many bytes: zeros behind the picture change nothing of it."""
    return photo(size).ljust(size, b"\0")


def send(visitor, data, name="coat.jpg"):
    return poster(visitor)(multipart(Hostile("", name, data, hostile.READY)))


def processes(house):
    """Pids of the worker, of the server, and of the server's processes."""
    web = house.processes["web"].pid
    children = Path(f"/proc/{web}/task/{web}/children").read_text().split()
    return [house.processes["worker"].pid, web, *map(int, children)]


def left_over(house):
    """Files of uploads that no request owns any more."""
    return sorted(each.name for each in (house.folder / "incoming").glob("upload-*"))


def rows(house, email):
    found = house.query(
        "SELECT blob_url FROM images WHERE user_id = (SELECT id FROM users WHERE email = %s)", email
    )
    return sorted(key for (key,) in found)


def originals(house, email):
    """Keys of the stored originals of a user, whether or not they have rows."""
    ((user_id,),) = house.query("SELECT id::text FROM users WHERE email = %s", email)
    blobs = house.folder / "blobs"
    found = (blobs / "users" / user_id).rglob("original.*")
    return sorted(each.relative_to(blobs).as_posix() for each in found)


@pytest.fixture(scope="session")
def fed(stack):
    """What became of every hostile file, and of good photos after them."""
    visitor = stack.visitor("hostile@example.com")
    post = poster(visitor)
    before = processes(stack.house)
    outcomes = feed(hostile.everything(), post=post, house=stack.house)
    good = [
        Hostile("good", name, path.read_bytes(), hostile.READY)
        for name, path in pictures.PHOTOS.items()
    ]
    outcomes += feed(good, post=post, house=stack.house)
    assert processes(stack.house) == before, "no process died"
    return outcomes


@pytest.fixture(scope="session")
def taker(stack):
    """Who sent them."""
    return stack.visitor("hostile@example.com")


def taken(fed, *kinds):
    found = [each for each in fed if each.facts and (not kinds or each.file.kind in kinds)]
    assert found
    return found


# --- Row 30: size -------------------------------------------------------------------------------


def test_row_30_a_photo_may_have_exactly_the_limit(stack):
    visitor = stack.visitor("limit@example.com")
    assert send(visitor, of_size(LIMIT)).json()["images"][0]["file_size"] == LIMIT
    answer = send(visitor, of_size(LIMIT + 1))
    assert (answer.status, answer.json()["errors"][0]["code"]) == (422, "too_large")
    assert "more than the 25 MB" in answer.json()["errors"][0]["message"]
    assert len(originals(stack.house, "limit@example.com")) == 1
    assert left_over(stack.house) == []


def test_row_30_what_is_larger_than_all_limits_is_refused_unread(stack):
    visitor = stack.visitor("large@example.com")
    status = post_raw(stack, visitor, b"", headers={"Content-Length": "2000000000"})
    assert status == 413
    assert left_over(stack.house) == []


def peak_mb(pid):
    return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def test_row_30_memory_does_not_grow_with_the_upload(stack, capsys):
    visitor = stack.visitor("large@example.com")
    send(visitor, photo())
    web = processes(stack.house)[2:]
    before = max(map(peak_mb, web))
    for _ in range(6):
        assert send(visitor, of_size(LIMIT)).status == 201
    after = max(map(peak_mb, web))
    with capsys.disabled():
        print(f"\nsix photos of 25 MB: a web process grew from {before:.0f} to {after:.0f} MB")
    assert after - before < 30


# --- Rows 31 and 32: content, and its cost --------------------------------------------------------


def test_row_31_every_hostile_file_gets_what_it_deserves(fed):
    wrong = [
        (each.file.kind, each.file.name, each.outcome, each.words)
        for each in fed
        if each.outcome not in each.file.expected
    ]
    assert not wrong


def test_row_31_the_content_decides_the_type(fed, taker):
    for each in taken(fed, "wrong suffix", "polyglot", "odd"):
        with Image.open(io.BytesIO(each.file.data), formats=("JPEG", "PNG", "WEBP")) as image:
            kind = "image/jpeg" if image.format == "MPO" else Image.MIME[image.format]
        assert each.facts["mime_type"] == kind
        assert show(taker, each.facts["url"]).headers["Content-Type"] == kind


def test_row_31_a_reason_is_a_sentence(fed):
    refused = [each for each in fed if each.outcome not in {"ready", "400"}]
    assert refused
    for each in refused:
        assert re.fullmatch(r"[A-Z].{20,}\.", each.words), each.words


def test_row_32_no_bomb_costs_more_than_a_photo_may(fed, capsys):
    slowest = max(fed, key=lambda each: each.processor)
    largest = max(fed, key=lambda each: each.megabytes)
    with capsys.disabled():
        print(
            f"\n{len(fed)} files: longest wait {max(each.seconds for each in fed):.1f} s,"
            f" slowest decoder {slowest.processor:.1f} s of a core ({slowest.file.name}),"
            f" largest {largest.megabytes} MB"
        )
    assert slowest.processor < SECONDS
    assert largest.megabytes <= MEGABYTES


# --- Row 33: quota ------------------------------------------------------------------------------


@contextmanager
def room_for(house, email, size):
    """Leaves a user that much room: a row without bytes takes the rest."""
    with psycopg.connect(house.database, autocommit=True) as conn:
        (image_id,) = conn.execute(
            "INSERT INTO images (user_id, filename, original_filename, blob_url, sha256, file_size,"
            " mime_type, width, height, status, rejection) SELECT id, 'x.jpg', 'x.jpg', 'x', repeat('0', 64),"
            " %s - (SELECT coalesce(sum(file_size), 0) FROM images WHERE user_id = users.id),"
            " 'image/jpeg', 1, 1, 'rejected', 'No photo.' FROM users WHERE email = %s RETURNING id",
            [QUOTA - size, email],
        ).fetchone()
        try:
            yield
        finally:
            conn.execute("DELETE FROM images WHERE id = %s", [image_id])


def test_row_33_a_full_quota_is_a_reason_and_concerns_nobody_else(stack):
    visitor = stack.visitor("full@example.com")
    with room_for(stack.house, "full@example.com", 100):
        answer = send(visitor, photo())
        assert (answer.status, answer.json()["errors"][0]["code"]) == (422, "quota")
        assert answer.json()["errors"][0]["message"].startswith("Your 20 GB are used up.")
        assert send(stack.visitor("roomy@example.com"), photo()).status == 201
    assert originals(stack.house, "full@example.com") == []
    assert send(visitor, photo()).status == 201


@pytest.mark.parametrize("number", [5, 50])
def test_row_29_parallel_uploads_share_the_room_that_is_left(stack, number):
    email = f"parallel{number}@example.com"
    visitor = stack.visitor(email)
    photos = [of_size(200_000) for _ in range(number)]
    with room_for(stack.house, email, 5 * 200_000), ThreadPoolExecutor(number) as threads:
        statuses = sorted(
            answer.status for answer in threads.map(lambda p: send(visitor, p), photos)
        )
    assert statuses == [201] * 5 + [422] * (number - 5)
    assert originals(stack.house, email) == rows(stack.house, email)
    assert len(rows(stack.house, email)) == 5


def test_row_33_the_same_file_ten_times_at_once_is_stored_once(stack):
    visitor, data = stack.visitor("twice@example.com"), photo()
    with ThreadPoolExecutor(10) as threads:
        answers = list(threads.map(lambda _: send(visitor, data), range(10)))
    assert [answer.status for answer in answers] == [201] * 10
    assert len({answer.json()["images"][0]["id"] for answer in answers}) == 1
    keys = rows(stack.house, "twice@example.com")
    assert len(keys) == 1
    assert originals(stack.house, "twice@example.com") == keys


# --- Rows 34 to 39: what is kept and given out ----------------------------------------------------


def test_row_34_nothing_stored_is_ever_a_page_or_a_program(fed, taker):
    for each in taken(fed, "wrong suffix", "polyglot", "name"):
        for size in SIZES:
            answer = show(taker, each.facts["url"] + size)
            assert answer.status == 200
            assert answer.headers["Content-Type"] in {"image/jpeg", "image/png", "image/webp"}
        assert taker.request("GET", each.facts["url"] + "/x.html").status == 404


def test_row_35_names_never_become_paths(fed, stack):
    found = [each for each in fed if each.file.kind == "name" and each.outcome == "ready"]
    assert len(found) >= len(hostile.NAMES)
    blobs = stack.house.folder / "blobs"
    keys = [each.relative_to(blobs).as_posix() for each in blobs.rglob("*") if each.is_file()]
    assert keys
    assert [key for key in keys if not STORED.fullmatch(key)] == []
    for shown in hostile.NAMES.values():
        for folder in (stack.house.folder.parent, ROOT, Path("/etc/cron.d")):
            if shown != "photo":
                assert not (folder / shown).exists()
        assert not list(stack.house.folder.rglob(re.sub(r"[\[\]*?]", "?", shown)))


def test_row_35_names_are_kept_as_one_line_of_text(fed):
    for each in taken(fed, "name"):
        shown = each.facts["original_filename"]
        assert shown == clean_filename(shown)
        assert each.file.shown in {None, shown}


def test_row_36_a_name_is_given_out_in_one_header(fed, taker):
    for each in taken(fed, "name"):
        answer = show(taker, each.facts["url"] + "?download")
        (header,) = answer.headers.getlist("Content-Disposition")
        assert re.match(
            r'attachment; filename=("[^"]*"|[!#$&+.^_`|~\w-]+)(; filename\*=UTF-8|$)', header
        )
        assert header.isascii()
        assert not {"X", "X-Evil"} & set(answer.headers)


def test_row_37_what_hides_behind_a_photo_is_in_no_copy_and_opens_nowhere(stack):
    """The decision: no virus scanner (docs/security.md)."""
    assert "### Malware" in (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    eicar = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
    visitor = stack.visitor("malware@example.com")
    file = Hostile("", "eicar.jpg", photo() + eicar, hostile.READY)
    (fed,) = feed([file], post=poster(visitor), house=stack.house)
    assert fed.outcome == "ready"
    for size in SIZES[1:]:
        assert b"EICAR" not in show(visitor, fed.facts["url"] + size).data
    original = show(visitor, fed.facts["url"])
    assert original.data == file.data
    assert original.headers["Content-Disposition"].startswith("attachment;")


@pytest.mark.parametrize(
    "size", [*SIZES, "?download", "?size=thumb&download", "?size=preview&download"]
)
def test_row_38_a_picture_is_only_ever_a_picture(fed, taker, size):
    for each in (taken(fed, "polyglot")[0], taken(fed, "odd")[0]):
        answer = show(taker, each.facts["url"] + size)
        assert answer.headers["Content-Type"].startswith("image/")
        assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        is_attachment = "Content-Disposition" in answer.headers
        assert is_attachment is (not size.startswith("?size=") or "download" in size)


def test_row_38_neither_is_what_stands_in_for_it(stack):
    visitor = stack.visitor("soon@example.com")
    image = send(visitor, photo()).json()["images"][0]
    stack.house.query(
        "UPDATE images SET has_preview = false WHERE id = %s RETURNING id", image["id"]
    )
    answer = show(visitor, image["url"] + "?size=thumb")
    assert answer.headers["Content-Type"].startswith("image/")
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"


def is_silent(data):
    """No maker, no place, no profile, no note."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        noise = {"exif", "icc_profile", "xmp", "comment", "photoshop", "mp"} & set(image.info)
        return not image.getexif() and not noise and b"SECRET" not in data and b"Exif" not in data


def test_row_39_no_copy_tells_where_and_with_what_a_photo_was_taken(fed, taker):
    for each in taken(fed, "metadata", "orientation"):
        for size in SIZES[1:]:
            assert is_silent(show(taker, each.facts["url"] + size).data)


def test_row_39_neither_does_what_fal_receives(stack):
    visitor = stack.visitor("silent@example.com")
    images = [
        visitor.upload("coat", make(pictures.photo(size=(300, 200)), exif=pictures.exif()))
        for make in (pictures.jpeg, pictures.png, pictures.webp)
    ]
    order = {
        "image": [image["id"] for image in images],
        "workflow": "mannequin-to-human-v1",
        "client_key": f"silent-{time.monotonic_ns()}",
    }
    batch = visitor.request("POST", "/batches", fields=order)
    assert batch.status == 201, batch.data
    jobs = [job["id"] for job in batch.json()["jobs"]]

    def are_done():
        found = stack.house.query(
            "SELECT status FROM processing_jobs WHERE id = ANY(%s::uuid[])", jobs
        )
        return {status for (status,) in found} == {"completed"}

    wait_until(are_done, what="the end of the batch")
    tokens = stack.house.query(
        "SELECT token::text FROM submissions WHERE job_id = ANY(%s::uuid[])", jobs
    )
    assert len(tokens) == 3
    for (token,) in tokens:
        (sent,) = (stack.house.folder / "practice").rglob(f"{token}-0.*")
        assert is_silent(sent.read_bytes())


# --- The body -----------------------------------------------------------------------------------


def post_raw(stack, visitor, body, *, headers, content_type=CONTENT_TYPE, hang_up=False):
    """Send exactly these bytes through nginx; the status, or 0 without an answer."""
    cookie = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
    lines = {
        "Host": "localhost",
        "Connection": "close",
        "Cookie": cookie,
        "Accept": "application/json",
        "Sec-Fetch-Site": "same-origin",
        "Content-Type": content_type,
        "Content-Length": str(len(body)),
        **headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    with stack.raw() as sock:
        sock.sendall(f"POST /images HTTP/1.1\r\n{head}\r\n".encode() + body)
        if hang_up:
            socket.socket.shutdown(sock, socket.SHUT_WR)  # SSLSocket's would forget the TLS
        answer = sock.recv(65536)
    return int(answer.split(b" ", 2)[1]) if answer else 0


END = b"--%s--\r\n" % BOUNDARY.encode()


def part(disposition, data):
    return b"--%s\r\nContent-Disposition: %s\r\n\r\n%s\r\n" % (
        BOUNDARY.encode(),
        disposition,
        data,
    )


PHOTO_PART = part(b'form-data; name="images"; filename="a.jpg"', pictures.jpeg())


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (PHOTO_PART + END, "multipart/form-data", 400),
        (PHOTO_PART + END, "multipart/form-data; boundary=another", 400),
        (PHOTO_PART, CONTENT_TYPE, 400),
        (PHOTO_PART[:-5000], CONTENT_TYPE, 400),
        (part(b"form-data", pictures.jpeg()) + END, CONTENT_TYPE, 400),
        (b"", CONTENT_TYPE, 400),
        (part(b'form-data; name="a"', b"") * 1001 + PHOTO_PART + END, CONTENT_TYPE, 413),
        (part(b'form-data; name="a"', bytes(600_000)) + PHOTO_PART + END, CONTENT_TYPE, 413),
        (b"".join(PHOTO_PART for _ in range(51)) + END, CONTENT_TYPE, 413),
    ],
    ids=[
        "no-boundary", "wrong-boundary", "unclosed", "cut", "nameless", "nothing", "1001-parts",
        "600-kB-field", "51-files",
    ],
)  # fmt: skip
def test_bodies_that_do_not_hold_together_are_never_a_silent_200(stack, body, content_type, status):
    visitor = stack.visitor("parts@example.com")
    assert post_raw(stack, visitor, body, headers={}, content_type=content_type) == status
    assert left_over(stack.house) == []


def test_a_content_length_that_lies_is_never_a_silent_200(stack):
    visitor, body = stack.visitor("parts@example.com"), PHOTO_PART + END
    small = {"Content-Length": str(len(body) - 100)}
    assert post_raw(stack, visitor, body, headers=small) == 400
    large = {"Content-Length": str(len(body) + 100)}
    assert post_raw(stack, visitor, body, headers=large, hang_up=True) in {0, 400}
    assert rows(stack.house, "parts@example.com") == []


@pytest.mark.parametrize("filler", [b"\r\n", b"\r", b"\n", b"-", b"\r\n--"])
def test_ten_megabytes_of_line_ends_take_no_time(stack, filler, capsys):
    """CVE-2023-46136: looking for a boundary in these took minutes."""
    data = filler * (10_000_000 // len(filler))
    visitor = stack.visitor("parts@example.com")
    begin = time.monotonic()
    answer = send(visitor, data)
    seconds = time.monotonic() - begin
    with capsys.disabled():
        print(f"\n10 MB of {filler!r}: {seconds:.2f} s")
    assert (answer.status, answer.json()["errors"][0]["code"]) == (422, "not_a_photo")
    assert seconds <= 1


# --- The disk -----------------------------------------------------------------------------------


@contextmanager
def no_file_over(house, size):
    """The server's processes may write no larger file, as on a disk with quotas."""
    usual = {}
    for pid in processes(house)[2:]:
        usual[pid] = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, usual[pid][1]))
    try:
        yield
    finally:
        for pid, limits in usual.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


libc = ctypes.CDLL(None, use_errno=True)


def mount(source, target, kind, flags, options=b""):
    done = libc.mount(source.encode(), str(target).encode(), kind, flags, options)
    if done:
        pytest.skip(f"mounting is not permitted here: {os.strerror(ctypes.get_errno())}")


@contextmanager
def full_disk(house):
    """A real disk of one megabyte in place of the store."""
    blobs = house.folder / "blobs"
    mount("tmpfs", blobs, b"tmpfs", 0, b"size=1m")
    try:
        yield
        assert [each for each in blobs.rglob("*") if each.is_file()] == []
    finally:
        libc.umount2(str(blobs).encode(), 2)


@contextmanager
def read_only_disk(house):
    """The data folder, mounted so that nothing can be written."""
    bind, remount, readonly = 4096, 32, 1
    folder = house.folder
    mount(str(folder), folder, None, bind)
    try:
        mount("none", folder, None, bind | remount | readonly)
        yield
    finally:
        libc.umount2(str(folder).encode(), 2)


@contextmanager
def failing_disk(house):
    """Every fsync of the server's processes reports an error of the disk."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed: apt-get install strace")
    pids = [each for pid in processes(house)[2:] for each in ("-p", str(pid))]
    inject = ["-e", "trace=fsync", "-e", "inject=fsync:error=EIO"]
    tracer = subprocess.Popen(
        [strace, "-f", *inject, "-o", os.devnull, *pids], stderr=subprocess.PIPE, text=True
    )
    try:
        attached = 0
        while attached < len(pids) // 2:
            line = tracer.stderr.readline()
            if not line or "not permitted" in line:
                pytest.skip(f"tracing is not permitted here: {line.strip()}")
            attached += "attached" in line
        yield
    finally:
        tracer.terminate()
        tracer.communicate(timeout=30)


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (lambda house: no_file_over(house, 100_000), "larger than this site can keep"),
        (full_disk, "is full"),
        (read_only_disk, "can only be read"),
        (failing_disk, "reports an error"),
    ],
    ids=["no-large-file", "full", "read-only", "input-output-error"],
)
def test_a_disk_in_trouble_is_507_and_leaves_nothing_half_written(stack, request, trouble, words):
    email = f"disk{request.node.callspec.id}@example.com"
    visitor = stack.visitor(email)
    with trouble(stack.house):
        answer = send(visitor, of_size(2_000_000))
        assert answer.status == 507
        assert words in answer.json()["error"]
        assert "Nothing was stored" in answer.json()["error"]
    assert rows(stack.house, email) == originals(stack.house, email) == left_over(stack.house) == []
    assert send(visitor, of_size(2_000_000)).status == 201
