"""Uploads: the page, receiving files, and the bytes of pictures for those who own them."""

import os
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

from flask import (
    Blueprint,
    Response,
    abort,
    jsonify,
    redirect,
    render_template,
    request,
    url_for,
)
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.http import dump_options_header
from werkzeug.wsgi import wrap_file

from i2i.errors import NotFound, StorageError
from i2i.gateways.storage import image_key, incoming
from i2i.models import Image, ImageStatus
from i2i.queries import images as queries
from i2i.services import images as service
from i2i.services.images import Received, Refusal
from i2i.web.database import connection, lend, release
from i2i.web.errors import wants_json
from i2i.web.paging import read_cursor, write_cursor
from i2i.web.sessions import current_user
from i2i.web.state import state
from i2i.web.uploads import incoming_files
from i2i.web.words import day

bp = Blueprint("images", __name__)

PAGE_SIZE = 48

LONGEST_ADDRESS = 7_000
"""Characters that every server on the way takes; a form with more is sent as a POST."""

NOT_SETTINGS = frozenset({"image", "select", "after", "switch", "preset", "without"})
"""Fields of the two forms that name photos, or ask for something once."""

PLACEHOLDER = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 320 400" width="320" height="400">'
    '<rect width="320" height="400" fill="#808080" fill-opacity=".25"/></svg>'
)

IMAGE_CSP = "default-src 'none'; sandbox"
"""An upload opened by itself may do nothing, whatever it holds."""


@bp.get("/")
@bp.route("/upload", methods=["GET", "POST"])
def upload() -> ResponseReturnValue:
    """The user's newest uploads and the place to drop more.

    A new batch comes back to it for other photos, with all that was typed; POST is the same for a
    choice too large for an address.
    """
    return _upload_page()


def _upload_page(accepted: list[str] | None = None, refused: list[Refusal] | None = None) -> str:
    here = request.values.get("after")
    after = read_cursor(here)
    shared = state()
    found = queries.page_uploads(
        connection(),
        user_id=current_user().id,
        page_size=PAGE_SIZE + 1,
        before=after and after[0],
        before_id=after and after[1],
    )
    shown = found[:PAGE_SIZE]
    chosen = _chosen(shown)
    settings = typed_settings()
    older = write_cursor(shown[-1].created_at, shown[-1].id) if len(found) > PAGE_SIZE else None
    return render_template(
        "images/upload.html",
        images=[facts(image) for image in shown],
        chosen=chosen,
        elsewhere=_elsewhere(chosen, shown),
        settings=settings,
        all_url=address("images.upload", settings, after=here, select="all"),
        none_url=address("images.upload", settings, after=here),
        too_large=service.too_large(shared.settings),
        max_bytes=shared.settings.max_upload_bytes,
        accepted=accepted,
        refused=refused or [],
        older_url=older and address("images.upload", settings, after=older),
        newer_url=address("images.upload", settings) if after else None,
        page_words="Newest upload first, by name",
    )


def _chosen(shown: list[Image]) -> set[UUID]:
    """What is ticked at first: all that is ready, by its link, else the ids of the address."""
    if request.args.get("select") == "all":
        return {image.id for image in shown if image.status == ImageStatus.READY}
    return set(chosen_ids("image")[0])


def _elsewhere(chosen: set[UUID], shown: list[Image]) -> list[Image]:
    """What is chosen of the uploads on other pages; it stays chosen."""
    others = chosen - {image.id for image in shown}
    if not others:
        return []
    return queries.find_uploads(connection(), image_ids=list(others), user_id=current_user().id)


def typed_settings() -> dict[str, list[str]]:
    """What the form of a new batch holds beside its photos, where this request carries one."""
    if "client_key" not in request.values:
        return {}
    return {name: texts for name, texts in request.values.lists() if name not in NOT_SETTINGS}


def address(endpoint: str, fields: Mapping[str, Sequence[str]], **more: object) -> str:
    """The page with these fields in its address; without them where it would be too long."""
    wanted = {**fields, **{name: value for name, value in more.items() if value is not None}}
    url = url_for(endpoint)
    full = f"{url}?{urlencode(wanted, doseq=True)}" if wanted else url
    return full if len(full) <= LONGEST_ADDRESS else url


@bp.get("/images")
def index() -> ResponseReturnValue:
    """The facts of the own uploads named by `image`: one question for all that are prepared."""
    if not wants_json():
        return redirect(url_for("images.upload"), code=303)
    found = queries.find_uploads(
        connection(), image_ids=chosen_ids("image")[0], user_id=current_user().id
    )
    return jsonify(images=[as_json(image) for image in found])


@bp.post("/images")
def create() -> ResponseReturnValue:
    """Receive files. The connection that knew the user goes back before the body is read."""
    shared = state()
    release()
    files = incoming_files(
        request,
        folder=incoming(shared.settings.data_dir),
        max_bytes=shared.settings.max_upload_bytes,
        max_files=shared.settings.max_files_per_upload,
    )
    if not files:
        abort(400, "No photo arrived. Nothing was stored. Choose photos and send them again.")
    outcomes = service.receive(
        lend, shared.storage, shared.settings, user_id=current_user().id, uploads=files
    )
    taken = [each for each in outcomes if isinstance(each, Received)]
    refused = [each for each in outcomes if isinstance(each, Refusal)]
    full = next((each for each in refused if each.code == "storage"), None)
    if full is not None and not taken:
        raise StorageError(full.message)
    if wants_json():
        images = [_receipt(each) for each in taken]
        errors = [
            {"filename": each.filename, "code": each.code, "message": each.message}
            for each in refused
        ]
        return jsonify(images=images, errors=errors), 201 if taken else 422
    if refused:
        names = [each.image.original_filename for each in taken]
        return _upload_page(accepted=names, refused=refused), 422
    return redirect(url_for("images.upload"), code=303)


def _receipt(received: Received) -> dict[str, Any]:
    """What the page says of a photo that went in; `since` when it lay there already."""
    image = received.image
    since = day(image.created_at) if received.duplicate else None
    return as_json(image) | {"duplicate": received.duplicate, "since": since}


def facts(image: Image) -> dict[str, Any]:
    """An image as pages and scripts see it."""
    return {
        "id": image.id,
        "url": url_for("images.show", id=image.id),
        "thumbnail_url": url_for("images.show", id=image.id, size="thumb"),
        "preview_url": url_for("images.show", id=image.id, size="preview"),
        "original_filename": image.original_filename,
        "file_size": image.file_size,
        "sha256": image.sha256,
        "mime_type": image.mime_type,
        "width": image.width,
        "height": image.height,
        "status": image.status,
        "rejection": image.rejection,
        "created_at": image.created_at,
    }


def as_json(image: Image) -> dict[str, Any]:
    """The same for scripts: times as ISO 8601."""
    return facts(image) | {"created_at": image.created_at.isoformat()}


@bp.get("/images/<uuid:id>")
def show(id: UUID) -> ResponseReturnValue:  # noqa: A002 - the word of the route
    """The bytes as stored, a smaller copy (`size`), or facts as JSON; from the trash a `thumb`."""
    find = service.get if request.args.get("size") == "thumb" else service.get_visible
    image = find(connection(), image_id=id, user_id=current_user().id)
    release()
    if wants_json():
        return jsonify(as_json(image))
    size = request.args.get("size")
    # Of the three only the original has bytes that a stranger chose: it is saved, never shown.
    name = image.original_filename if size is None or "download" in request.args else None
    if size is None:
        if link := _link(image):
            return link
        return _bytes(key=image.blob_url, mime_type=image.mime_type, etag=image.sha256, name=name)
    if size not in {"thumb", "preview"}:
        raise NotFound("There is no such size.")
    if not image.has_preview:
        return Response(
            PLACEHOLDER,
            mimetype="image/svg+xml",
            headers={"Cache-Control": "no-store", "Content-Security-Policy": IMAGE_CSP},
        )
    return _copy(image, size=size, name=name)


def _link(image: Image) -> ResponseReturnValue | None:
    """Where a download comes from, when it may come from the bucket itself.

    Only what is asked for to be saved: pages show pictures of this site alone. The store is asked
    first, so that who wants a lost file reads our sentence and not the store's.
    """
    shared = state()
    seconds = shared.settings.s3_link_seconds
    if not seconds or request.method != "GET" or "download" not in request.args:
        return None
    shared.storage.size(image.blob_url)
    url = shared.storage.link(
        image.blob_url,
        disposition=attachment(image.original_filename),
        mime_type=image.mime_type,
        seconds=seconds,
    )
    if url is None:
        return None
    answer = redirect(url)
    answer.headers["Cache-Control"] = "private, no-store"
    answer.vary.add("Accept")
    return answer


def thumbnail(image: Image) -> Response:
    """The 320 px copy at an address that may show another picture tomorrow."""
    response = _copy(image, size="thumb")
    response.headers["Cache-Control"] = "private, no-cache"
    return response


def _copy(image: Image, *, size: str, name: str | None = None) -> Response:
    key = image_key(image.user_id, image.id, f"{size}.webp")
    return _bytes(key=key, mime_type="image/webp", etag=f"{image.sha256}-{size}", name=name)


def _bytes(*, key: str, mime_type: str, etag: str, name: str | None) -> Response:
    """A private, cacheable answer that understands ranges and If-None-Match; `name` saves it."""
    shared = state()
    location = shared.settings.x_accel_redirect
    response = Response(mimetype=mime_type, direct_passthrough=True)
    response.headers["Cache-Control"] = "private, max-age=31536000, immutable"
    response.headers["Content-Security-Policy"] = IMAGE_CSP
    if name:
        response.headers["Content-Disposition"] = attachment(name)
    response.set_etag(etag)
    response.vary.add("Accept")  # the same URL answers with facts
    if response.make_conditional(request).status_code != 200:
        return response  # who has the bytes needs nothing of the store
    if location or request.method == "HEAD":
        size = shared.storage.size(key)
    else:
        file = shared.storage.open(key)
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        response.response = wrap_file(request.environ, file)
    response.content_length = size
    try:
        response.make_conditional(request, accept_ranges=True, complete_length=size)
    except RequestedRangeNotSatisfiable:
        response.close()
        raise
    return _hand_over(response, path=location + key) if location else response


def _hand_over(response: Response, *, path: str) -> Response:
    """Let nginx send the bytes: whether, to whom and as what is decided, the range is its part."""
    if response.status_code in {200, 206}:
        # nginx adds these by itself, whatever is there.
        del response.headers["Accept-Ranges" if response.status_code == 200 else "Content-Range"]
        response.status_code = 200
        response.response = ()
        response.content_length = 0
        response.headers["X-Accel-Redirect"] = path
    return response


def attachment(name: str) -> str:
    """A Content-Disposition that names the file in every alphabet (RFC 6266, RFC 8187)."""
    plain = "".join(
        letter if letter.isascii() and letter.isprintable() and letter not in '"\\' else "_"
        for letter in name
    )
    options = {"filename": plain}
    if plain != name:
        options["filename*"] = f"UTF-8''{quote(name, safe='!#$&+-.^_`|~')}"
    return dump_options_header("attachment", options)


@bp.post("/images/<uuid:id>/delete")
def delete(id: UUID) -> ResponseReturnValue:  # noqa: A002
    """To the trash."""
    return _set_deleted(id, deleted=True, back=url_for("images.upload"))


@bp.post("/images/<uuid:id>/restore")
def restore(id: UUID) -> ResponseReturnValue:  # noqa: A002
    """Back from the trash."""
    return _set_deleted(id, deleted=False, back=url_for("trash.show"))


def _set_deleted(image_id: UUID, *, deleted: bool, back: str) -> ResponseReturnValue:
    user = current_user()
    if not queries.set_deleted(connection(), image_id=image_id, user_id=user.id, deleted=deleted):
        raise NotFound("This picture does not exist.")
    if wants_json():
        return jsonify(as_json(service.get(connection(), image_id=image_id, user_id=user.id)))
    return redirect(back, code=303)


def chosen_ids(*names: str) -> list[list[UUID]]:
    """The ids of repeated fields of this request, once each, in order; 404 for what is no id."""
    try:
        return [
            [UUID(text) for text in dict.fromkeys(chain(request.values.getlist(name)))]
            for name in names
        ]
    except ValueError:
        raise NotFound("There is no such photo.") from None
