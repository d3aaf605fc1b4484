"""What the schema itself refuses, whatever the code above believes."""

import factories
import psycopg
import pytest
from psycopg.errors import CheckViolation, ForeignKeyViolation, RestrictViolation, UniqueViolation

from i2i.queries import jobs, submissions

UPDATE_JOB = "UPDATE processing_jobs SET {} WHERE id = %(job)s"

RECORD = "INSERT INTO audit_events (action, outcome, actor, target, detail) VALUES ({})"

BACKUP = "INSERT INTO backups (id, taken_at, images, checked) VALUES (gen_random_uuid(), now(), {})"

CHECKS = {
    "users_email_shape": "UPDATE users SET email = 'no address' WHERE id = %(owner)s",
    "users_role_known": "UPDATE users SET role = 'king' WHERE id = %(owner)s",
    "sessions_token_hash_length": (
        "INSERT INTO sessions (token_hash, user_id, user_agent, ip_address)"
        " VALUES ('short', %(owner)s, '', '')"
    ),
    "images_sha256_shape": "UPDATE images SET sha256 = upper(sha256) || 'g' WHERE id = %(image)s",
    "images_file_size_positive": "UPDATE images SET file_size = 0 WHERE id = %(image)s",
    "images_width_positive": "UPDATE images SET width = 0 WHERE id = %(image)s",
    "images_height_positive": "UPDATE images SET height = -1 WHERE id = %(image)s",
    "images_status_known": "UPDATE images SET status = 'lovely', has_preview = false WHERE id = %(image)s",
    "images_rejection_explained": "UPDATE images SET rejection = 'No.' WHERE id = %(image)s",
    "images_preview_needs_ready": "UPDATE images SET status = 'preparing' WHERE id = %(image)s",
    "images_lease_only_while_decoded": (
        "UPDATE images SET lease_until = now(), status = 'rejected', rejection = 'No.',"
        " has_preview = false WHERE id = %(image)s"
    ),
    "images_size_known": "UPDATE images SET width = NULL WHERE id = %(image)s",
    "images_lost_is_rejected": "UPDATE images SET lost_at = now() WHERE id = %(image)s",
    "workflow_configs_id_shape": "UPDATE workflow_configs SET id = 'Basic' WHERE id = 'unused'",
    "workflow_configs_unit_price_positive": "UPDATE workflow_configs SET unit_price = -1",
    "workflow_configs_price_unit_known": "UPDATE workflow_configs SET price_unit = 'hour'",
    "workflow_configs_max_side_range": "UPDATE workflow_configs SET max_side = 1",
    "workflow_configs_max_references_range": "UPDATE workflow_configs SET max_references = 4",
    "workflow_configs_deadline_positive": "UPDATE workflow_configs SET deadline_seconds = 0",
    "workflow_configs_usual_positive": "UPDATE workflow_configs SET usual_seconds = 0",
    "batches_variations_range": "UPDATE batches SET variations = 5",
    "batches_pilot_positive": "UPDATE batches SET pilot = -1",
    "batches_client_key_length": "UPDATE batches SET client_key = 'short'",
    "batch_references_position_range": (
        "INSERT INTO batch_references SELECT id, 4, %(image)s FROM batches LIMIT 1"
    ),
    "processing_jobs_status_known": UPDATE_JOB.format("status = 'lovely'"),
    "processing_jobs_queue_position_positive": UPDATE_JOB.format("queue_position = -1"),
    "processing_jobs_time_positive": UPDATE_JOB.format("processing_time_ms = -1"),
    "processing_jobs_finished_when_terminal": UPDATE_JOB.format("status = 'cancelled'"),
    "processing_jobs_failed_says_why": UPDATE_JOB.format("status = 'failed', completed_at = now()"),
    "processing_jobs_at_fal_has_id": UPDATE_JOB.format("status = 'processing'"),
    "processing_jobs_waiting_is_unknown_to_fal": UPDATE_JOB.format("fal_job_id = 'x'"),
    "processing_jobs_result_only_when_completed": UPDATE_JOB.format("result_image_id = %(image)s"),
    "processing_jobs_lease_only_in_motion": UPDATE_JOB.format("lease_until = now()"),
    "processing_jobs_submitting_is_leased": UPDATE_JOB.format("status = 'submitting'"),
    "submissions_token_shape": "UPDATE submissions SET token = 'x'",
    "submissions_state_known": "UPDATE submissions SET state = 'lovely'",
    "submissions_outcome_known": (
        "UPDATE submissions SET state = 'settled', outcome = 'joy', charged = 'yes', ended_at = now()"
    ),
    "submissions_charged_known": (
        "UPDATE submissions SET state = 'settled', outcome = 'error', charged = 'half', ended_at = now()"
    ),
    "submissions_sent_has_arguments": "UPDATE submissions SET arguments = NULL",
    "submissions_sent_has_time": "UPDATE submissions SET sent_at = NULL",
    "submissions_intent_is_unsent": "UPDATE submissions SET state = 'intent'",
    "submissions_accepted_has_request": "UPDATE submissions SET state = 'accepted'",
    "submissions_settled_has_outcome": "UPDATE submissions SET charged = 'yes'",
    "submissions_ended_when_over": "UPDATE submissions SET state = 'rejected'",
    "submissions_look_has_end": "UPDATE submissions SET look_after = now()",
    "submissions_look_only_after_end": (
        "UPDATE submissions SET look_after = now(), look_until = now()"
    ),
    "breaker_one_row": "INSERT INTO breaker (id) VALUES (false)",
    "breaker_reason_known": (
        "UPDATE breaker SET reason = 'mood', opened_at = now(), next_check_at = now()"
    ),
    "breaker_open_says_why": "UPDATE breaker SET opened_at = now(), next_check_at = now()",
    "processing_jobs_verdict_known": UPDATE_JOB.format("verdict = 'lovely', verdict_at = now()"),
    "processing_jobs_verdict_of_a_picture": UPDATE_JOB.format(
        "verdict = 'approved', verdict_at = now()"
    ),
    "processing_jobs_verdict_has_time": UPDATE_JOB.format("verdict_at = now()"),
    "processing_jobs_verdict_reason_known": UPDATE_JOB.format(
        "status = 'completed', completed_at = now(), verdict = 'rejected', verdict_at = now(),"
        " verdict_reason = 'taste'"
    ),
    "processing_jobs_reason_only_when_rejected": UPDATE_JOB.format("verdict_reason = 'fit'"),
    "processing_jobs_number_positive": UPDATE_JOB.format("number = 0"),
    "processing_jobs_verdict_note_length": UPDATE_JOB.format("verdict_note = repeat('x', 1001)"),
    "presets_name_length": (
        "INSERT INTO presets (user_id, workflow_name, name, parameters)"
        " VALUES (%(owner)s, 'unused', '', '{}')"
    ),
    "audit_events_action_shape": RECORD.format("'Signed in', 'done', 'x', '', ''"),
    "audit_events_outcome_known": RECORD.format("'session.create', 'maybe', 'x', '', ''"),
    "audit_events_actor_length": RECORD.format(
        "'session.create', 'done', repeat('x', 255), '', ''"
    ),
    "audit_events_target_length": RECORD.format(
        "'session.create', 'done', 'x', repeat('x', 501), ''"
    ),
    "audit_events_detail_length": RECORD.format(
        "'session.create', 'done', 'x', '', repeat('x', 1001)"
    ),
    "tokens_name_length": (
        "INSERT INTO tokens (user_id, name, token_hash) VALUES (%(owner)s, '', sha256('x'))"
    ),
    "tokens_token_hash_length": (
        "INSERT INTO tokens (user_id, name, token_hash) VALUES (%(owner)s, 'x', 'short')"
    ),
    "backups_checked_range": BACKUP.format("1, 2"),
}
"""A statement that each named CHECK refuses; the submission is one that was sent."""

UNIQUES = {
    "users_email_key": "INSERT INTO users (email, password_hash) VALUES ('OWNER@example.com', 'x')",
    "images_blob_url_key": "UPDATE images SET blob_url = 'x'",
    "images_upload_key": "UPDATE images SET sha256 = repeat('a', 64)",
    "workflow_versions_number_key": (
        "INSERT INTO workflow_versions (workflow_name, version, definition)"
        " SELECT workflow_name, version, definition FROM workflow_versions"
    ),
    "batches_client_key_key": (
        "INSERT INTO batches SELECT (jsonb_populate_record(batches, jsonb_build_object("
        "'id', gen_random_uuid()))).* FROM batches"
    ),
    "processing_jobs_place_key": (
        "INSERT INTO processing_jobs SELECT (jsonb_populate_record(processing_jobs,"
        " jsonb_build_object('id', gen_random_uuid()))).* FROM processing_jobs"
    ),
    "submissions_one_live_key": (
        "INSERT INTO submissions SELECT (jsonb_populate_record(submissions, jsonb_build_object("
        "'id', gen_random_uuid(), 'token', repeat('a', 32)))).* FROM submissions"
    ),
    "webhook_events_body_key": (
        "INSERT INTO webhook_events (token, request_id, body_sha256)"
        " VALUES ('t', 'r', repeat('a', 64)), ('t', 'r', repeat('a', 64))"
    ),
    "breaker_pkey": "INSERT INTO breaker DEFAULT VALUES",
}


@pytest.fixture
def rows(conn, owner):
    """A user, two photos, a workflow in use and one that is not, a job whose request was sent."""
    image = factories.make_image(conn, user=owner)
    factories.make_image(conn, user=owner)
    factories.make_workflow(conn, id="unused")
    job = factories.make_job(conn, user=owner, image=image)
    factories.make_submission(conn, job=job, user=owner, state="sent")
    return {"owner": owner.id, "image": image.id, "job": job.id}


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_refuses_its_case(conn, rows, name):
    with pytest.raises(CheckViolation) as refused:
        conn.execute(CHECKS[name], rows)
    assert refused.value.diag.constraint_name == name


@pytest.mark.parametrize("name", UNIQUES)
def test_what_is_unique_is_there_once(conn, rows, name):
    with pytest.raises(UniqueViolation) as refused:
        conn.execute(UNIQUES[name], rows)
    assert refused.value.diag.constraint_name == name


def test_every_check_has_its_case(conn):
    found = conn.execute(
        "SELECT conname FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid"
        " WHERE contype = 'c' AND relnamespace = 'public'::regnamespace AND relname !~ 'yoyo'"
    )
    assert {row[0] for row in found} == CHECKS.keys()


def test_everything_has_a_name_of_ours(conn):
    found = conn.execute(
        "SELECT relname FROM pg_class WHERE relkind = 'i' AND relnamespace = 'public'::regnamespace"
        " AND relname !~ '(_pkey|_key|_index)$' AND relname !~ 'yoyo'"
    )
    assert found.fetchall() == []


@pytest.mark.parametrize("state", ["intent", "sent", "accepted"])
def test_a_job_has_one_live_submission(conn, owner, state):
    job = factories.make_job(conn, user=owner)
    token = factories.make_submission(conn, job=job, user=owner, state=state)
    with pytest.raises(UniqueViolation) as refused, conn.transaction():
        factories.make_submission(conn, job=job, user=owner)
    assert refused.value.diag.constraint_name == "submissions_one_live_key"
    if state == "sent":
        submissions.lose_answer(conn, token=token, http_status=None, detail="lost")
        with pytest.raises(UniqueViolation), conn.transaction():
            factories.make_submission(conn, job=job, user=owner)


def test_the_ledger_is_never_deleted(conn, rows):
    with pytest.raises(RestrictViolation, match="the ledger keeps every submission"):
        conn.execute("DELETE FROM submissions")


def test_deleting_a_job_keeps_its_submissions(conn, owner, rows):
    conn.execute("DELETE FROM batches")
    assert jobs.find(conn, job_id=rows["job"]) is None
    found = conn.execute("SELECT job_id, user_id, user_email FROM submissions").fetchall()
    assert found == [(None, owner.id, owner.email)]


def test_saved_states_of_a_workflow_are_never_changed(conn, rows):
    with pytest.raises(RestrictViolation, match="workflow_versions is append-only"):
        conn.execute("UPDATE workflow_versions SET definition = '{}'")


def test_a_workflow_in_use_stays(conn, rows):
    for statement in (
        "DELETE FROM workflow_configs WHERE id = 'basic-v1'",
        "DELETE FROM workflow_versions WHERE workflow_name = 'basic-v1'",
    ):
        with pytest.raises(ForeignKeyViolation), conn.transaction():
            conn.execute(statement)


def test_a_workflow_is_numbered_by_the_database(conn):
    def state():
        return conn.execute(
            "SELECT workflow.version, array_agg(saved.version ORDER BY saved.version),"
            " max(saved.definition ->> 'name') FILTER (WHERE saved.version = workflow.version)"
            " FROM workflow_configs AS workflow JOIN workflow_versions AS saved"
            " ON saved.workflow_name = workflow.id GROUP BY workflow.id"
        ).fetchone()

    factories.make_workflow(conn)
    assert state() == (1, [1], "Basic")
    conn.execute("UPDATE workflow_configs SET name = 'Basic', is_active = false, version = 9")
    assert state() == (1, [1], "Basic")
    conn.execute("UPDATE workflow_configs SET name = 'Finer'")
    assert state() == (2, [1, 2], "Finer")
    conn.execute("UPDATE workflow_configs SET name = 'Basic'")
    assert state() == (3, [1, 2, 3], "Basic")


def test_a_jobs_revision_counts_what_a_page_shows(conn, owner):
    job = factories.make_job(conn, user=owner, status="processing")

    def revision():
        return conn.execute(
            "SELECT revision, updated_at FROM processing_jobs WHERE id = %s", [job.id]
        ).fetchone()

    def change(assignment):
        conn.execute(f"UPDATE processing_jobs SET {assignment} WHERE id = %s", [job.id])
        return revision()

    number, changed_at = revision()
    for unseen in ("fence = fence + 1", "lease_until = now()", "run_after = now()", "crashes = 1"):
        assert change(unseen) == (number, changed_at)
    for seen in (
        "queue_position = 3",
        "attention = 'Look.'",
        "cancel_requested_at = now()",
        "started_at = now()",
        "deleted_at = now()",
        "status = 'cancelled', lease_until = NULL, completed_at = now()",
    ):
        before = revision()
        after = change(seen)
        assert after[0] == before[0] + 1
        assert after[1] > before[1], "the clock goes on within a transaction"


def test_a_result_that_cannot_be_decoded_may_have_no_size(conn, owner):
    result = factories.make_result(conn, user=owner)
    conn.execute("UPDATE images SET width = NULL, height = NULL WHERE id = %s", [result.id])


def test_an_e_mail_address_is_found_in_any_case(conn, owner):
    with pytest.raises(psycopg.errors.UniqueViolation):
        factories.make_user(conn, email="Owner@Example.com")
