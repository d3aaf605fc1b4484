"""Bodies that nobody wrote: whatever arrives as a form is answered, and never with a 5xx.

`make security ARGS="--fuzz-minutes 10 -k multipart"` tries for ten minutes.
"""

import io
from collections import Counter

import factories
import pictures
import psycopg
import pytest
from hypothesis import strategies as st
from psycopg_pool import ConnectionPool

from i2i import passwords
from i2i.app import create_app
from i2i.queries import sessions

BOUNDARY = b"x-boundary"

PHOTO = pictures.jpeg(pictures.photo(size=(40, 30)))

LINE_ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b""])

FRAGMENTS = st.sampled_from(
    [b"--", b"\r\n", b"\r", b"\n", b"--" + BOUNDARY, b"\r\n--" + BOUNDARY, b"--" + BOUNDARY + b"--",
     b"\0", b'"', b"\\", b";", b":", b"=", b"%00", b"\xff", b"x" * 70_000, PHOTO]
)  # fmt: skip

NAMES = st.one_of(
    st.sampled_from([b"images", b"client_key", b"image", b"", b"images[]", b"name"]),
    st.binary(max_size=20),
)


@st.composite
def dispositions(draw):
    kind = draw(st.sampled_from([b"form-data", b"form-data", b"attachment", b"", b"form-data;;"]))
    quote = draw(st.sampled_from([b'"', b'"', b"", b"'"]))
    line = kind + b"; name=" + quote + draw(NAMES) + quote
    for key in draw(st.lists(st.sampled_from(
        [b"filename", b"filename*", b"filename*0", b"filename*0*", b"name", b"name*", b"x"]
    ), max_size=3)):  # fmt: skip
        prefix = draw(
            st.sampled_from([b"", b"UTF-8''", b"utf-16''", b"zlib''", b"latin-1'x'", b"''"])
        )
        line += b"; " + key + b"=" + quote + prefix + draw(st.binary(max_size=30)) + quote
    return line


HEADERS = st.one_of(
    dispositions().map(lambda line: b"Content-Disposition: " + line),
    st.sampled_from(
        [b"Content-Type: image/jpeg", b"Content-Type: text/plain; charset=utf-7", b"Content-Type: ",
         b"Content-Type: text/plain; charset=zlib", b"Content-Length: -1", b"Content-Length: 9e9",
         b"Content-Transfer-Encoding: base64", b"Content-Type: multipart/form-data; boundary=y",
         b": no name", b"no colon", b" folded", b"X: " + b"y" * 20_000]
    ),
    st.binary(max_size=40),
)  # fmt: skip


@st.composite
def parts(draw):
    end = draw(LINE_ENDS)
    headers = draw(st.lists(HEADERS, min_size=0, max_size=4))
    content = b"".join(draw(st.lists(st.one_of(st.binary(max_size=60), FRAGMENTS), max_size=4)))
    delimiter = b"--" + draw(st.sampled_from([BOUNDARY, BOUNDARY, BOUNDARY, BOUNDARY[:-1], b""]))
    return delimiter + end + b"".join(each + end for each in headers) + end + content + end


@st.composite
def right_parts(draw):
    """Only the content is odd."""
    name = b"workflow" if seldom(draw, 4) else b'images"; filename="a.jpg'
    content = draw(st.one_of(st.binary(max_size=60), FRAGMENTS)) if seldom(draw, 2) else PHOTO
    return b'--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (
        BOUNDARY,
        name,
        content,
    )


def seldom(draw, one_in):
    return draw(st.sampled_from([False] * (one_in - 1) + [True]))


@st.composite
def bodies(draw):
    """Mostly right, so that what is wrong is met deep inside."""
    body = draw(st.sampled_from([b"preamble\r\n", b"\r\n"])) if seldom(draw, 5) else b""
    for _ in range(draw(st.integers(0, 5))):
        body += draw(parts() if seldom(draw, 4) else right_parts())
    end = b"--" + BOUNDARY + b"--"
    body += draw(st.sampled_from([end, b"", b"--"])) if seldom(draw, 6) else end + b"\r\n"
    while seldom(draw, 5):
        at, length = draw(st.integers(0, len(body))), draw(st.integers(0, 40))
        body = body[:at] + draw(st.binary(max_size=20)) + body[at + length :]
    return body


@st.composite
def requests(draw):
    """Path, body, content type, and by how much the Content-Length is wrong; None is chunked."""
    path = "/batches" if seldom(draw, 5) else "/images"
    content_type = (
        draw(CONTENT_TYPES) if seldom(draw, 6) else "multipart/form-data; boundary=x-boundary"
    )
    excess = draw(st.sampled_from([-1, -20, 1, 100, None])) if seldom(draw, 6) else 0
    return path, draw(bodies()), content_type, excess


CONTENT_TYPES = st.one_of(
    st.sampled_from(
        ["multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; boundary="x',
         "multipart/form-data; boundary=" + "x" * 300, "multipart/form-data; boundary=\r\n--",
         "multipart/form-data; boundary*=utf-16''x-boundary", "multipart/mixed; boundary=x-boundary",
         "multipart/form-data; boundary=x-boundary; charset=zlib", "MULTIPART/FORM-DATA;BOUNDARY=x-boundary",
         "application/x-www-form-urlencoded", "application/x-www-form-urlencoded; charset=utf-16", ""]
    ),
    st.text(st.characters(max_codepoint=255), max_size=40).map("multipart/form-data; boundary={}".format),
)  # fmt: skip


@pytest.fixture
def client(database, make_settings, fal_environ):
    """A signed-in one of an application with a database of its own: a statement may fail there."""
    app = create_app(make_settings(POSTGRES_URL=database, **fal_environ))
    with psycopg.connect(database, autocommit=True) as conn:
        user = factories.make_user(conn)
        factories.make_workflow(conn)
        sessions.create(
            conn,
            token_hash=passwords.hash_token("a token"),
            user_id=user.id,
            user_agent="a test",
            ip_address="127.0.0.1",
        )
    client = app.test_client()
    client.environ_base["HTTP_SEC_FETCH_SITE"] = "same-origin"
    client.environ_base["HTTP_ACCEPT"] = "application/json"
    client.set_cookie("i2i", "a token")
    with ConnectionPool(database, min_size=1, max_size=2, kwargs={"autocommit": True}) as pool:
        app.extensions["i2i"].database.use(pool)
        yield client


def test_no_form_is_answered_with_a_5xx(client, fuzz, settings, capsys):
    seen = Counter()

    def check(sent):
        path, body, content_type, excess = sent
        environ = {"CONTENT_TYPE": content_type, "wsgi.input": io.BytesIO(body)}
        if excess is None:
            environ |= {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
        else:
            environ["CONTENT_LENGTH"] = str(max(0, len(body) + excess))
        with client.post(path, environ_overrides=environ) as answer:
            seen[answer.status_code] += 1
            assert answer.status_code < 500
            assert (answer.status_code < 400) is bool(answer.json.get("images"))

    number = fuzz(check, sent=requests())
    with capsys.disabled():
        print(f"\n{number} forms: {dict(sorted(seen.items()))}")
    assert not list((settings.data_dir / "incoming").iterdir())
