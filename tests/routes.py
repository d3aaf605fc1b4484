"""Every route: who may use it, with which fields, and what has to be there for its paths."""

import factories

from i2i import passwords
from i2i.gateways.storage import image_key
from i2i.queries import presets, trash

TABLE = """
method  route                                anonymous  stranger  other  admin  owner
GET     /                                    login      login     200    200    200
GET     /upload                              login      login     200    200    200
POST    /upload                              login      login     200    200    200
GET     /images                              login      login     303    303    303
POST    /images                              login      login     400    400    400
GET     /images/<uuid:id>                    login      login     404    404    200
POST    /images/<uuid:id>/delete             login      login     404    404    303
POST    /images/<uuid:id>/restore            login      login     404    404    303
GET     /batches/new                         login      login     303    303    200
POST    /batches/new                         login      login     303    303    303
POST    /batches/estimate                    login      login     200    200    200
POST    /batches                             login      login     422    422    303
GET     /batches/<uuid:id>                   login      login     404    404    200
GET     /batches/<uuid:id>/live              login      login     404    404    200
GET     /batches/<uuid:id>.zip               login      login     404    404    200
GET     /batches/<uuid:id>/review            login      login     404    404    303
GET     /batches/<uuid:id>/verdicts          login      login     404    404    200
POST    /batches/<uuid:id>/release           login      login     404    404    303
POST    /batches/<uuid:id>/cancel            login      login     404    404    303
POST    /batches/<uuid:id>/retry             login      login     404    404    303
GET     /trash                               login      login     200    200    200
POST    /trash/restore                       login      login     303    303    303
POST    /trash/empty                         login      login     200    200    200
GET     /jobs/again                          login      login     409    409    409
POST    /jobs/delete                         login      login     409    409    409
POST    /jobs/<uuid:id>/delete               login      login     404    404    200
POST    /batches/<uuid:id>/restore           login      login     404    404    303
POST    /jobs/<uuid:id>/restore              login      login     404    404    303
GET     /jobs.zip                            login      login     409    409    409
GET     /jobs                                login      login     200    200    200
GET     /jobs/<uuid:id>                      login      login     404    404    200
POST    /jobs/<uuid:id>/cancel               login      login     404    404    303
POST    /jobs/<uuid:id>/retry                login      login     404    404    303
POST    /jobs/<uuid:id>/recover              login      login     404    404    303
POST    /jobs/<uuid:id>/verdict              login      login     404    404    303
GET     /workflows/<workflow_id>/sample/original  login  login    404    404    404
GET     /workflows/<workflow_id>/sample/result  login    login    404    404    404
GET     /presets                             login      login     200    200    200
POST    /presets                             login      login     303    303    303
POST    /presets/<uuid:id>/rename            login      login     404    404    303
POST    /presets/<uuid:id>/delete            login      login     404    404    303
GET     /account                             login      login     200    200    200
POST    /account                             login      login     422    422    422
GET     /account/password                    login      login     303    303    303
POST    /account/password                    login      login     303    303    303
POST    /account/review-keys                 login      login     303    303    303
POST    /account/time-zone                   login      login     303    303    303
POST    /account/sessions/<uuid:id>/revoke   login      login     404    404    303
GET     /admin/                              login      login     404    303    404
GET     /admin/health                        login      login     404    200    404
GET     /admin/workflows                     login      login     404    200    404
POST    /admin/workflows                     login      login     404    422    404
GET     /admin/workflows/new                 login      login     404    200    404
GET     /admin/workflows/<workflow_id>       login      login     404    200    404
POST    /admin/workflows/<workflow_id>       login      login     404    422    404
POST    /admin/workflows/<workflow_id>/active  login    login     404    303    404
POST    /admin/workflows/<workflow_id>/sample  login    login     404    303    404
GET     /admin/jobs                          login      login     404    200    404
GET     /admin/usage                         login      login     404    200    404
GET     /admin/users                         login      login     404    200    404
POST    /admin/users                         login      login     404    200    404
GET     /admin/users/<uuid:id>               login      login     404    200    404
POST    /admin/users/<uuid:id>/whitelist     login      login     404    303    404
POST    /admin/users/<uuid:id>/role          login      login     404    303    404
POST    /admin/users/<uuid:id>/password      login      login     404    200    404
POST    /admin/users/<uuid:id>/sign-out      login      login     404    303    404
GET     /admin/users/<uuid:id>/delete        login      login     404    200    404
POST    /admin/users/<uuid:id>/delete        login      login     404    303    404
GET     /login                               200        200       303    303    303
POST    /login                               401        401       401    401    401
POST    /logout                              303        303       303    303    303
GET     /metrics                             404        404       404    404    404
POST    /webhooks/fal/<token>                404        404       404    404    404
GET     /healthz                             200        200       200    200    200
GET     /readyz                              200        200       200    200    200
GET     /static/<version>/<filename>         200        200       200    200    200
"""

HEADINGS, *LINES = (line.split() for line in TABLE.strip().splitlines())
WHO = HEADINGS[2:]
ROUTES = [(method, route) for method, route, *_ in LINES]
EXPECTED = {
    (method, route, who): answer
    for method, route, *answers in LINES
    for who, answer in zip(WHO, answers, strict=True)
}
WITH_IDS = [(method, route) for method, route in ROUTES if "<uuid:" in route]

FIELDS = {
    "POST /batches": {
        "image": "{image}",
        "workflow": "basic-v1",
        "setting": "outdoor",
        "client_key": "0123456789abcdef",
    },
    "POST /batches/new": {"image": "{image}"},
    "POST /presets": {"workflow": "basic-v1", "setting": "outdoor", "preset_name": "Mine"},
    "POST /presets/<uuid:id>/rename": {"name": "Another"},
    "POST /jobs/<uuid:id>/recover": {"action": "look"},
    "POST /jobs/<uuid:id>/verdict": {"verdict": "approved"},
    "POST /account": {"current_password": "wrong", "new_password": "fifteen letters"},
    "POST /admin/workflows/<workflow_id>/active": {"is_active": "yes"},
    "POST /admin/users": {"email": "new@example.com"},
    "POST /account/time-zone": {"time_zone": "Europe/Berlin"},
    "POST /login": {"email": "owner@example.com", "password": "wrong"},
}
"""What a form needs so that its answer tells who may use it, and not what was left out."""


def belongings(conn, storage, owner):
    """What a user may have, the bytes of a photo included: ids for the paths of all routes.

    Returns:
        UUIDs by word: image, preset, batch, made (a batch with a result),
        thrown (one in the trash), session, user (somebody
        else), and jobs: failed, waiting, done, trashed, lost.
    """
    photo = factories.make_image(conn, user=owner, data=b"\xff\xd8\xff bytes", storage=storage)
    for name in ("thumb.webp", "preview.webp"):
        (storage.root / image_key(owner.id, photo.id, name)).write_bytes(b"RIFF")
    failed = factories.make_job(conn, user=owner, status="failed", image=photo)
    waiting = factories.make_job(conn, user=owner, status="pending", image=photo)
    session = conn.execute(
        "INSERT INTO sessions (token_hash, user_id, user_agent, ip_address)"
        " VALUES (%s, %s, 'there', '::1') RETURNING id",
        [passwords.hash_token(f"another browser of {owner.email}"), owner.id],
    ).fetchone()[0]
    preset = presets.create(
        conn, user_id=owner.id, workflow_name="basic-v1", name="Owner's", parameters={}
    )
    done = factories.make_job(conn, user=owner, status="completed", image=photo)
    trashed = factories.make_job(conn, user=owner, status="completed", image=photo)
    trash.throw_away(conn, job_ids=[trashed.id], user_id=owner.id)
    return {
        "image": photo.id,
        "preset": preset.id,
        "batch": failed.batch_id,
        "made": done.batch_id,
        "failed": failed.id,
        "waiting": waiting.id,
        "done": done.id,
        "trashed": trashed.id,
        "thrown": trashed.batch_id,
        "lost": factories.make_job(conn, user=owner, status="unknown", image=photo).id,
        "session": session,
        "user": factories.make_user(conn).id,
    }


def path_of(method, route, things):
    """The route with an id of `things` in the place of each parameter."""
    kind = next(
        (word for word in ("users", "images", "batches", "sessions", "presets") if word in route),
        "jobs",
    )
    batch = "batch"
    if route.endswith(".zip"):
        batch = "made"
    elif route.endswith("/restore"):
        batch = "thrown"
    job = {"cancel": "waiting", "recover": "lost", "verdict": "done", "restore": "trashed"}.get(
        route.rpartition("/")[2], "failed"
    )
    names = {"images": "image", "batches": batch, "sessions": "session", "jobs": job}
    names |= {"presets": "preset", "users": "user"}
    path = route.replace("<uuid:id>", str(things[names[kind]]))
    path = path.replace("<version>/<filename>", "old/app.css").replace("<workflow_id>", "basic-v1")
    return path + (
        f"?image={things['image']}" if (method, route) == ("GET", "/batches/new") else ""
    )


def fields_of(method, route, things):
    """The fields that its form needs, with ids of `things` in them."""
    fields = FIELDS.get(f"{method} {route}", {})
    return {name: text.format_map(things) for name, text in fields.items()}
