"""Uploads as people and scripts send them, and the bytes of pictures for those who own them."""

import hashlib
import io
from urllib.parse import quote

import factories
import pages
import pictures
import pytest

from i2i.gateways.storage import image_key
from i2i.queries import images as queries
from i2i.services import storage as storage_service

KEYS = {
    *("id", "url", "thumbnail_url", "preview_url", "original_filename", "file_size", "sha256"),
    *("mime_type", "width", "height", "status", "rejection", "created_at"),
}

JPEG = pictures.jpeg(pictures.photo(size=(120, 90)))
PNG = pictures.png(pictures.photo("coffee.png", size=(90, 120)))
EVIL = '"><img src=x onerror=alert(1)>.jpg'


def files(*named):
    return {"images": [(io.BytesIO(data), name) for name, data in named]}


def upload(browser, *named):
    return browser.json("/images", method="POST", data=files(*named))


def upload_page(browser, *named):
    return browser.post("/images", data=files(*named))


def stored(app):
    return sorted(app.extensions["i2i"].storage.keys())


# --- Receiving --------------------------------------------------------------------------------


def test_what_a_script_gets_to_know(app, as_owner, owner):
    answer = upload(as_owner, ("front.jpg", JPEG), ("back.png", PNG))
    assert answer.status_code == 201
    assert answer.json.keys() == {"images", "errors"}
    assert answer.json["errors"] == []
    for image, (name, data, kind, size) in zip(
        answer.json["images"],
        [
            ("front.jpg", JPEG, "image/jpeg", (120, 90)),
            ("back.png", PNG, "image/png", (90, 120)),
        ],
        strict=True,
    ):
        assert image.keys() == KEYS | {"duplicate", "since"}
        assert image["original_filename"] == name
        assert image["sha256"] == hashlib.sha256(data).hexdigest()
        assert (image["file_size"], image["mime_type"]) == (len(data), kind)
        assert (image["width"], image["height"]) == size
        assert (image["status"], image["rejection"], image["duplicate"]) == (
            "preparing",
            None,
            False,
        )
        assert image["url"] == f"/images/{image['id']}"
        assert image["thumbnail_url"] == f"/images/{image['id']}?size=thumb"
    assert len(stored(app)) == 2
    assert as_owner.json(image["url"]).json.keys() == KEYS


def test_people_are_sent_to_their_photos(as_owner):
    answer = upload_page(as_owner, ("front.jpg", JPEG))
    assert (answer.status_code, answer.headers["Location"]) == (303, "/upload")
    page = pages.check(as_owner.get("/upload"))
    assert "front.jpg" in page.text
    assert [box["name"] for box in page.all("input", class_="pick")] == ["image"]


def test_an_upright_size_is_told_for_a_photo_taken_sideways(as_owner):
    (image,) = upload(as_owner, ("a.jpg", pictures.red_corner(orientation=6))).json["images"]
    assert (image["width"], image["height"]) == (60, 40)


def test_the_same_bytes_again_are_the_same_photo(app, as_owner, as_other, conn):
    first = upload(as_owner, ("front.jpg", JPEG)).json["images"][0]
    before = stored(app)
    answer = upload(as_owner, ("copy of front.jpg", JPEG))
    (again,) = answer.json["images"]
    assert (answer.status_code, again["id"], again["duplicate"]) == (201, first["id"], True)
    assert again["original_filename"] == "front.jpg"
    assert (first["since"], again["since"][:6]) == (None, "today ")
    assert stored(app) == before
    assert conn.execute("SELECT count(*) FROM images").fetchone() == (1,)
    (foreign,) = upload(as_other, ("front.jpg", JPEG)).json["images"]
    assert foreign["id"] != first["id"]
    assert foreign["duplicate"] is False


def test_many_photos_are_asked_after_at_once(as_owner, as_other, prepare):
    (ready,) = upload(as_owner, ("front.jpg", JPEG)).json["images"]
    prepare()
    (preparing,) = upload(as_owner, ("back.png", PNG)).json["images"]
    (trashed,) = upload(as_owner, ("c.jpg", pictures.red_corner(orientation=1))).json["images"]
    as_owner.post(f"{trashed['url']}/delete")
    query = "&".join(f"image={each['id']}" for each in (ready, preparing, trashed))
    answer = as_owner.json(f"/images?{query}")
    assert all(each.keys() == KEYS for each in answer.json["images"])
    found = {each["id"]: each["status"] for each in answer.json["images"]}
    assert found == {ready["id"]: "ready", preparing["id"]: "preparing"}
    assert as_other.json(f"/images?{query}").json == {"images": []}
    assert as_owner.json("/images").json == {"images": []}
    assert as_owner.json("/images?image=x").status_code == 404


def ticked(page):
    return [box["value"] for box in page.all("input", class_="pick") if "checked" in box.attributes]


def test_all_that_is_ready_is_ticked_by_a_link(as_owner, prepare):
    (ready,) = upload(as_owner, ("front.jpg", JPEG)).json["images"]
    prepare()
    (preparing,) = upload(as_owner, ("back.png", PNG)).json["images"]
    assert ticked(pages.check(as_owner.get("/upload"))) == []
    assert ticked(pages.check(as_owner.get("/upload?select=all"))) == [ready["id"]]
    page = pages.check(as_owner.get(f"/upload?image={preparing['id']}"))
    assert ticked(page) == [preparing["id"]]
    assert "/upload?select=all" in [link["href"] for link in page.all("a", class_="text")]


def test_twice_in_one_body(as_owner):
    first, again = upload(as_owner, ("a.jpg", JPEG), ("b.jpg", JPEG)).json["images"]
    assert (first["id"], again["duplicate"]) == (again["id"], True)


def test_a_deleted_photo_comes_back_when_it_is_sent_again(as_owner):
    (image,) = upload(as_owner, ("front.jpg", JPEG)).json["images"]
    as_owner.post(f"{image['url']}/delete")
    assert "front.jpg" not in as_owner.get("/upload").text
    assert upload(as_owner, ("front.jpg", JPEG)).json["images"][0]["id"] == image["id"]
    assert "front.jpg" in as_owner.get("/upload").text


def damaged_png():
    """Whole by its chunks, so that only decoding finds out."""
    data = bytearray(pictures.png(pictures.photo("coffee.png", size=(200, 150))))
    data[len(data) // 2] ^= 0xFF
    return bytes(data)


CUT = pictures.jpeg(pictures.photo("flower.jpg", size=(200, 150)))[:-2000]
BAD = {
    "letter.jpg": b"Dear photographer, this is only a letter.\n",
    "cut.jpg": CUT,
    "nothing.jpg": b"",
    "poster.png": pictures.raw_png(9000, 6700, rows=1),
}
SENTENCES = {
    "letter.jpg": "Not a photo. It is named .jpg, but inside is text. Choose the photo itself.",
    "cut.jpg": "Cut short. The file ends in the middle; copy it again.",
    "nothing.jpg": "Empty file. 0 bytes arrived; copy it from the camera again.",
    "poster.png": "Too many pixels. 9,000 × 6,700 is 60 megapixels; 50 is the most. "
    "Export it smaller and add it again.",
}


def test_bad_files_never_fail_the_good_ones(as_owner):
    answer = upload(as_owner, ("good.jpg", JPEG), *BAD.items(), ("fine.png", PNG))
    assert answer.status_code == 201
    assert [each["original_filename"] for each in answer.json["images"]] == ["good.jpg", "fine.png"]
    assert all(error.keys() == {"filename", "code", "message"} for error in answer.json["errors"])
    assert {each["filename"]: each["message"] for each in answer.json["errors"]} == SENTENCES


def test_people_read_the_same_sentences(as_owner):
    answer = upload_page(as_owner, ("good.jpg", JPEG), *BAD.items(), ("fine.png", PNG))
    assert answer.status_code == 422
    page = pages.check(answer)
    summary = page.one(role="alert")
    title = summary.one(class_="summary-title").text
    assert title == "4 files not accepted, 2 photos added. Nothing was charged."
    assert {item.text for item in summary.all("li")} == {
        f"{name}: {sentence}" for name, sentence in SENTENCES.items()
    }
    assert len(page.all("input", class_="pick")) == 2


def test_what_only_decoding_finds_out_reaches_the_page(as_owner, prepare):
    (image,) = upload(as_owner, ("broken.png", damaged_png())).json["images"]
    assert image["status"] == "preparing"
    prepare()
    page = pages.check(as_owner.get("/upload"))
    assert "Not readable" in [each.text for each in page.all(class_="words-title")]
    assert "The picture inside is damaged; export it again and add the new file." in page.text
    assert page.all("input", class_="pick") == []
    facts = as_owner.json(image["url"]).json
    assert facts["status"] == "rejected"
    again = upload(as_owner, ("broken.png", damaged_png()))
    assert again.status_code == 422
    assert again.json["errors"][0]["message"] == facts["rejection"]


def test_a_lost_photo_is_said_to_be_lost_and_healed_by_the_same_file(
    app, as_owner, conn, owner, prepare
):
    factories.make_workflow(conn)
    (image,) = upload(as_owner, ("front.jpg", JPEG)).json["images"]
    prepare()
    storage = app.extensions["i2i"].storage
    (key,) = (each for each in stored(app) if "original" in each)
    storage.delete(key)
    report = storage_service.check(conn, storage)
    storage_service.repair(conn, storage, app.extensions["i2i"].settings, report=report)
    page = pages.check(as_owner.get("/upload"))
    assert "Lost on our side" in [each.text for each in page.all(class_="words-title")]
    order = {"image": image["id"], "workflow": "basic-v1", "setting": "outdoor"}
    refused = as_owner.json("/batches", method="POST", data=order | {"client_key": "12345678"})
    assert (refused.status_code, "image" in refused.json["fields"]) == (422, True)
    (again,) = upload(as_owner, ("front.jpg", JPEG)).json["images"]
    assert (again["id"], again["duplicate"], again["status"]) == (image["id"], True, "preparing")
    prepare()
    assert as_owner.json(image["url"]).json["status"] == "ready"
    assert as_owner.get(image["url"]).data == JPEG


def test_none_accepted(as_owner, conn):
    answer = upload(as_owner, *BAD.items())
    assert (answer.status_code, answer.json["images"]) == (422, [])
    assert len(answer.json["errors"]) == 4
    assert conn.execute("SELECT count(*) FROM images").fetchone() == (0,)


@pytest.mark.parametrize("name", sorted(pictures.FOREIGN | pictures.OTHER_PICTURES))
def test_what_is_no_photo_is_refused_with_a_sentence(as_owner, name):
    data = (pictures.FOREIGN | pictures.OTHER_PICTURES)[name]
    answer = upload(as_owner, (name, data))
    (error,) = answer.json["errors"]
    assert (answer.status_code, error["filename"]) == (422, name)
    assert error["code"] in {"not_a_photo", "unsupported_type"}
    assert len(error["message"].split()) > 4
    assert error["message"].endswith(".")


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"images": ""},
        {"elsewhere": (io.BytesIO(JPEG), "a.jpg")},
        {"images": (io.BytesIO(), "")},
    ],
    ids=["nothing", "text", "other field", "nothing chosen"],
)
def test_a_body_without_a_photo(as_owner, data):
    sent = {"data": data, "content_type": "multipart/form-data"}
    answer = as_owner.json("/images", method="POST", **sent)
    assert (answer.status_code, answer.json.keys()) == (400, {"error"})


def test_people_who_choose_nothing_are_told(as_owner):
    answer = as_owner.post("/images", data={}, content_type="multipart/form-data")
    assert answer.status_code == 400
    assert "No photo arrived. Nothing was stored." in pages.check(answer).text


class Unreadable(io.RawIOBase):
    """A body that must not be touched."""

    def readable(self):
        return True

    def readinto(self, buffer):
        raise AssertionError("the body was read")


def post_unread(browser, *, length=1000, accept="application/json"):
    return browser.post(
        "/images",
        headers={"Accept": accept, "Content-Type": "multipart/form-data; boundary=x"},
        environ_overrides={"CONTENT_LENGTH": str(length), "wsgi.input": Unreadable()},
    )


def test_the_session_is_looked_at_before_the_body(anonymous, as_stranger):
    assert post_unread(anonymous).status_code == 401
    assert post_unread(as_stranger).status_code == 401
    assert post_unread(anonymous, accept="text/html").status_code == 303


def test_a_body_over_every_limit_is_refused_unread(as_owner, settings):
    most = settings.max_upload_bytes * settings.max_files_per_upload
    answer = post_unread(as_owner, length=most + 1_000_000)
    assert (answer.status_code, answer.json.keys()) == (413, {"error"})
    page = pages.check(post_unread(as_owner, length=most + 1_000_000, accept="text/html"))
    assert "Send fewer or smaller photos." in page.text


def test_other_routes_take_no_large_bodies(as_owner):
    answer = as_owner.post("/batches", data={"client_key": "x" * 2_000_000})
    assert answer.status_code == 413


def test_the_quota_speaks_before_the_disk_does(as_owner, app, conn, owner):
    factories.make_image(conn, user=owner)
    conn.execute("UPDATE images SET file_size = 20000000000")
    answer = upload(as_owner, ("front.jpg", JPEG))
    (error,) = answer.json["errors"]
    assert (answer.status_code, error["code"]) == (422, "quota")
    assert error["message"].startswith("Your 20 GB are used up.")
    assert stored(app) == []


def test_a_disk_that_takes_nothing(as_owner, app, conn):
    app.extensions["i2i"].storage.partial.write_text("a file in place of the folder")
    answer = upload(as_owner, ("front.jpg", JPEG), ("letter.jpg", BAD["letter.jpg"]))
    assert (answer.status_code, answer.json["error"]) == (507, "The file cannot be stored.")
    assert upload_page(as_owner, ("front.jpg", JPEG)).status_code == 507
    assert conn.execute("SELECT count(*) FROM images").fetchone() == (0,)
    assert stored(app) == []


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd.jpg", "passwd.jpg"),
        ("a\r\nX-Evil: 1.jpg", "aX-Evil: 1.jpg"),
        ("фото 日本.jpg", "фото 日本.jpg"),
    ],
)
def test_names_never_become_paths(app, as_owner, owner, given, kept):
    body = (
        b'--x\r\nContent-Disposition: form-data; name="images"; filename="'
        + given.replace("\r", "%0D").replace("\n", "%0A").encode()
        + b'"\r\n\r\n'
        + JPEG
        + b"\r\n--x--\r\n"
    )
    answer = as_owner.json(
        "/images", method="POST", data=body, content_type="multipart/form-data; boundary=x"
    )
    (image,) = answer.json["images"]
    assert image["original_filename"] in {kept, given.replace("\r\n", "%0D%0A")}
    assert stored(app) == [f"users/{owner.id}/{image['id']}/original.jpg"]


def test_fields_of_others_cannot_be_slipped_in(as_owner, owner, other, conn):
    data = files(("front.jpg", JPEG)) | {"user_id": str(other.id), "status": "ready"}
    (image,) = as_owner.json("/images", method="POST", data=data).json["images"]
    assert image["status"] == "preparing"
    row = conn.execute("SELECT user_id FROM images WHERE id = %s", [image["id"]]).fetchone()
    assert row == (owner.id,)


# --- Giving out -------------------------------------------------------------------------------


@pytest.fixture
def photo(app, conn, owner):
    storage = app.extensions["i2i"].storage
    made = factories.make_image(conn, user=owner, name="Kleid.jpg", data=JPEG, storage=storage)
    for name in ("thumb.webp", "preview.webp"):
        key = image_key(owner.id, made.id, name)
        (storage.root / key).write_bytes(name.encode())
    return made


def test_an_original_comes_back_byte_for_byte(as_owner, photo):
    answer = as_owner.get(f"/images/{photo.id}")
    assert (answer.status_code, answer.data, answer.mimetype) == (200, JPEG, "image/jpeg")
    assert answer.headers["Content-Length"] == str(len(JPEG))
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"].startswith("private,")
    assert set(answer.headers["Vary"].split(", ")) == {"Accept", "Cookie"}
    assert answer.headers["Content-Disposition"].startswith("attachment; filename=")
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("size", ["thumb", "preview"])
def test_smaller_copies(as_owner, photo, size):
    answer = as_owner.get(f"/images/{photo.id}?size={size}")
    assert (answer.data, answer.mimetype) == (f"{size}.webp".encode(), "image/webp")


def test_each_copy_has_a_tag_of_its_own(as_owner, photo):
    tags = {as_owner.get(f"/images/{photo.id}{size}").headers["ETag"] for size in SIZES}
    assert len(tags) == 3


SIZES = ["", "?size=thumb", "?size=preview"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("weak", ["", "W/"])
def test_what_the_browser_has_is_not_sent_again(as_owner, photo, size, weak):
    tag = as_owner.get(f"/images/{photo.id}{size}").headers["ETag"]
    answer = as_owner.get(f"/images/{photo.id}{size}", headers={"If-None-Match": weak + tag})
    assert (answer.status_code, answer.data) == (304, b"")
    assert answer.headers["ETag"] == tag
    stale = as_owner.get(f"/images/{photo.id}{size}", headers={"If-None-Match": '"other"'})
    assert stale.status_code == 200


@pytest.mark.parametrize(
    ("wanted", "part"),
    [("bytes=0-9", JPEG[:10]), ("bytes=100-", JPEG[100:]), ("bytes=-7", JPEG[-7:])],
)
def test_parts(as_owner, photo, wanted, part):
    answer = as_owner.get(f"/images/{photo.id}", headers={"Range": wanted})
    assert (answer.status_code, answer.data) == (206, part)
    assert answer.headers["Content-Range"].endswith(f"/{len(JPEG)}")
    assert answer.headers["Content-Length"] == str(len(part))


def test_a_part_beyond_the_end(as_owner, photo):
    answer = as_owner.get(f"/images/{photo.id}", headers={"Range": "bytes=9999999-"})
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == f"bytes */{len(JPEG)}"
    pages.check(answer)


def test_a_part_of_something_else_is_the_whole(as_owner, photo):
    headers = {"Range": "bytes=0-9", "If-Range": '"other"'}
    answer = as_owner.get(f"/images/{photo.id}", headers=headers)
    assert (answer.status_code, answer.data) == (200, JPEG)


def test_only_the_head(as_owner, photo):
    answer = as_owner.head(f"/images/{photo.id}")
    assert (answer.status_code, answer.data) == (200, b"")
    assert answer.headers["Content-Length"] == str(len(JPEG))


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("Kleid 1.jpg", "Kleid 1.jpg"),
        ("фото.jpg", "____.jpg"),
        ('a";b.jpg', "a_;b.jpg"),
        ("a\\b.jpg", "a_b.jpg"),
        ("a\r\nX-Evil: 1.jpg", "a__X-Evil: 1.jpg"),
        ("50%20off'.jpg", "50%20off'.jpg"),
        (EVIL, "_><img src=x onerror=alert(1)>.jpg"),
    ],
)
def test_downloads_carry_their_name_in_every_alphabet(as_owner, conn, photo, name, plain):
    conn.execute("UPDATE images SET original_filename = %s", [name])
    answer = as_owner.get(f"/images/{photo.id}?download")
    (header,) = answer.headers.getlist("Content-Disposition")
    assert answer.status_code == 200
    assert header.startswith("attachment; filename=")
    assert plain in header
    assert ("filename*=UTF-8''" in header) is (name != plain)
    if name != plain:
        assert quote(name, safe="!#$&+-.^_`|~") in header
    assert "X-Evil" not in answer.headers
    assert header.isascii()


@pytest.mark.parametrize("status", ["preparing", "rejected"])
@pytest.mark.parametrize("size", ["thumb", "preview"])
def test_a_placeholder_until_there_is_something(as_owner, conn, owner, status, size):
    image = factories.make_image(conn, user=owner, status=status)
    answer = as_owner.get(f"/images/{image.id}?size={size}")
    assert (answer.status_code, answer.mimetype) == (200, "image/svg+xml")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "ETag" not in answer.headers


def test_the_worker_makes_it_ready(as_owner, prepare):
    (image,) = upload(as_owner, ("front.jpg", JPEG)).json["images"]
    prepare()
    assert as_owner.json(image["url"]).json["status"] == "ready"
    thumb = as_owner.get(image["thumbnail_url"])
    assert (thumb.mimetype, thumb.data[:4]) == ("image/webp", b"RIFF")
    assert as_owner.get(image["url"]).data == JPEG


@pytest.mark.parametrize("path", ["?size=", "?size=huge", "?size=thumb%00", "?size=../x"])
def test_there_are_no_other_sizes(as_owner, photo, path):
    assert as_owner.get(f"/images/{photo.id}{path}").status_code == 404


def test_bytes_that_are_missing_are_a_page_not_a_crash(as_owner, conn, owner):
    image = factories.make_image(conn, user=owner)
    answer = as_owner.get(f"/images/{image.id}")
    assert answer.status_code == 404
    pages.check(answer)


@pytest.mark.parametrize(
    "data", [pictures.jpeg_with_html(), pictures.jpeg_with_zip()], ids=["html", "zip"]
)
def test_two_things_at_once_are_only_ever_shown_as_a_picture(as_owner, data):
    answer = upload(as_owner, ("page.html.jpg", data))
    for image in answer.json["images"]:
        shown = as_owner.get(image["url"])
        assert shown.mimetype == "image/jpeg"
        assert shown.headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in shown.headers["Content-Security-Policy"]


# --- To the trash and back --------------------------------------------------------------------


def test_to_the_trash_and_back(as_owner, photo):
    assert as_owner.post(f"/images/{photo.id}/delete").headers["Location"] == "/upload"
    assert "Kleid.jpg" not in as_owner.get("/upload").text
    assert as_owner.post(f"/images/{photo.id}/delete").status_code == 303
    assert as_owner.post(f"/images/{photo.id}/restore").status_code == 303
    assert "Kleid.jpg" in as_owner.get("/upload").text
    answer = as_owner.json(f"/images/{photo.id}/delete", method="POST")
    assert (answer.status_code, answer.json.keys()) == (200, KEYS)


# --- The page ---------------------------------------------------------------------------------


def test_the_first_visit(as_owner):
    page = pages.check(as_owner.get("/"))
    assert page.one("label", for_="files").text == "Drop mannequin photos here"
    assert "JPEG, PNG or WebP · up to 25 MB and 50 megapixels each · 50 at a time" in page.text
    assert "The whole garment" in page.text


def test_all_photos_are_reached_page_by_page(as_owner, conn, owner):
    """All have one time: within a test's transaction it stands still."""
    made = {str(factories.make_image(conn, user=owner).id) for _ in range(100)}
    seen, url = [], "/upload"
    while url:
        page = pages.check(as_owner.get(url))
        seen += [box["value"] for box in page.all("input", class_="pick")]
        url = next((link["href"] for link in page.all("a", rel="next")), None)
    assert len(seen) == 100
    assert set(seen) == made


def test_a_choice_can_be_changed(as_owner, conn, owner):
    first, second = (factories.make_image(conn, user=owner) for _ in range(2))
    page = pages.check(as_owner.get(f"/upload?image={second.id}"))
    ticked = {
        box["value"] for box in page.all("input", class_="pick") if "checked" in box.attributes
    }
    assert ticked == {str(second.id)}
    assert str(first.id) in page.source


def test_names_are_shown_never_run(as_owner, conn, owner):
    for status in ("preparing", "ready", "rejected"):
        factories.make_image(conn, user=owner, name=EVIL, status=status)
    page = pages.check(as_owner.get("/upload"))
    assert not page.all("img", src="x")
    assert EVIL in page.text
    bare = EVIL.removeprefix('"')  # browsers send the quotation mark as %22
    refused = pages.check(upload_page(as_owner, (bare, b"no photo")))
    assert not refused.all("img", src="x")
    assert bare in refused.one(role="alert").text


def test_the_page_takes_as_many_statements_for_many_photos(as_owner, conn, owner, count_statements):
    factories.make_image(conn, user=owner)
    with count_statements() as few:
        as_owner.get("/upload")
    for _ in range(30):
        factories.make_image(conn, user=owner)
    with count_statements() as many:
        as_owner.get("/upload")
    assert len(many) == len(few) <= 6


def test_a_rejection_keeps_its_reason_in_the_facts(as_owner, conn, owner):
    image = factories.make_image(conn, user=owner, status="preparing")
    queries.reject(conn, image_id=image.id, fence=0, rejection="Cut short. The file ends.")
    facts = as_owner.json(f"/images/{image.id}").json
    assert (facts["status"], facts["rejection"]) == ("rejected", "Cut short. The file ends.")
