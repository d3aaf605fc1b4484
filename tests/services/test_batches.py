"""One click makes pictures of several photos; the same click again makes nothing new."""

import secrets
from dataclasses import replace
from decimal import Decimal

import factories
import pytest

from i2i.errors import InvalidFields, NotFound, Refused
from i2i.queries import images, jobs, workflows
from i2i.services import batches
from i2i.services.batches import Order


@pytest.fixture
def workflow(conn):
    return factories.make_workflow(conn)


@pytest.fixture
def order(conn, owner, workflow):
    """Makes an order that holds, for two photos, apart from the changes."""
    photos = [factories.make_image(conn, user=owner, name=name) for name in ("b.jpg", "a.jpg")]

    def make(**changes):
        usual = Order(
            user_id=owner.id,
            workflow_id="basic-v1",
            image_ids=[photo.id for photo in photos],
            reference_ids=[],
            parameters={"setting": "outdoor", "seed": 10},
            variations=1,
            pilot=0,
            client_key=secrets.token_hex(8),
        )
        return replace(usual, **changes)

    return make


@pytest.fixture
def create(conn, settings):
    def make(order, settings=settings):
        batch_id = batches.create(conn, settings, order=order)
        return batches.get(conn, batch_id=batch_id, user_id=order.user_id)

    return make


@pytest.fixture
def refusal(conn, create):
    """The fields that an order is refused for; nothing may have been recorded."""

    def ask(order, **changes):
        with pytest.raises(InvalidFields) as refused:
            create(order, **changes)
        assert conn.execute("SELECT count(*) FROM batches").fetchone() == (0,)
        return refused.value.fields

    return ask


def test_a_batch_and_its_pictures(conn, create, order, workflow):
    batch = create(order(variations=2))
    assert (batch.workflow_name, batch.workflow_version_id) == ("basic-v1", workflow.version_id)
    assert batch.parameters == {"setting": "outdoor", "seed": 10}
    assert batch.estimate == Decimal("0.1400")
    made = factories.jobs_of(conn, batch)
    names = [
        images.find(conn, image_id=job.original_image_id, user_id=job.user_id).original_filename
        for job in made
    ]
    assert names == ["a.jpg", "a.jpg", "b.jpg", "b.jpg"]
    assert [job.variation for job in made] == [0, 1, 0, 1]
    assert [job.parameters["seed"] for job in made] == [10, 11, 10, 11]
    assert {job.status for job in made} == {"pending"}
    assert [job.position for job in made] == [1, 2, 3, 4]


def test_pictures_stand_in_the_order_in_which_people_count(conn, create, order, owner):
    photos = {
        name: factories.make_image(conn, user=owner, name=name)
        for name in ("IMG_10.jpg", "IMG_9.jpg", "img_2.jpg")
    }
    batch = create(order(image_ids=[each.id for each in photos.values()], pilot=2))
    made = [(job.original_image_id, job.status) for job in factories.jobs_of(conn, batch)]
    assert made == [
        (photos["img_2.jpg"].id, "pending"),
        (photos["IMG_9.jpg"].id, "pending"),
        (photos["IMG_10.jpg"].id, "held"),
    ]


def test_a_pilot_holds_the_rest_back(conn, create, order, owner, other):
    batch = create(order(variations=2, pilot=1))
    statuses = [job.status for job in factories.jobs_of(conn, batch)]
    assert statuses == ["pending", "pending", "held", "held"]
    with pytest.raises(NotFound):
        batches.release(conn, batch_id=batch.id, user_id=other.id)
    assert batches.release(conn, batch_id=batch.id, user_id=owner.id) == 2
    assert batches.release(conn, batch_id=batch.id, user_id=owner.id) == 0
    assert {job.status for job in factories.jobs_of(conn, batch)} == {"pending"}


def test_references_keep_their_order(conn, create, order, owner):
    references = [factories.make_image(conn, user=owner, name=name) for name in ("z.jpg", "c.jpg")]
    batch = create(order(reference_ids=[each.id for each in references]))
    assert images.find_references(conn, batch_id=batch.id) == references


def test_photos_may_still_be_preparing(conn, create, order, owner):
    photo = factories.make_image(conn, user=owner, status="preparing")
    batch = create(order(image_ids=[photo.id]))
    assert len(factories.jobs_of(conn, batch)) == 1


def test_the_same_click_again_is_the_same_batch(conn, create, order):
    wish = order()
    first = create(wish)
    assert create(replace(wish, image_ids=wish.image_ids[::-1])) == first
    assert len(factories.jobs_of(conn, first)) == 2


def test_the_same_click_is_answered_when_its_photo_was_rejected_meanwhile(
    conn, create, order, owner
):
    photo = factories.make_image(conn, user=owner, status="preparing")
    wish = order(image_ids=[photo.id])
    first = create(wish)
    images.reject(conn, image_id=photo.id, fence=0, rejection="Not readable.")
    assert create(wish) == first
    images.set_deleted(conn, image_id=photo.id, user_id=owner.id, deleted=True)
    workflows.set_active(conn, workflow_id="basic-v1", is_active=False)
    assert create(wish) == first


def test_the_same_click_with_other_settings_is_refused(conn, create, order):
    wish = order()
    create(wish)
    for changes in (
        {"parameters": {"setting": "outdoor", "seed": 11}},
        {"variations": 2},
        {"pilot": 1},
        {"image_ids": wish.image_ids[:1]},
        {"reference_ids": wish.image_ids[:1]},
    ):
        with pytest.raises(InvalidFields) as refused:
            create(replace(wish, **changes))
        assert refused.value.fields.keys() == {"client_key"}
        assert "Nothing new was sent or charged" in refused.value.fields["client_key"]
    assert conn.execute("SELECT count(*) FROM processing_jobs").fetchone() == (2,)


def test_a_key_is_its_users_own(conn, create, order, other):
    wish = order()
    first = create(wish)
    photo = factories.make_image(conn, user=other)
    second = create(replace(wish, user_id=other.id, image_ids=[photo.id]))
    assert second.id != first.id


def test_photos_of_others_are_not_there(conn, refusal, order, other):
    foreign = factories.make_image(conn, user=other)
    wish = order()
    assert refusal(replace(wish, image_ids=[foreign.id])).keys() == {"image"}
    assert refusal(replace(wish, image_ids=[*wish.image_ids, foreign.id])).keys() == {"image"}
    assert refusal(replace(wish, reference_ids=[foreign.id])).keys() == {"reference"}


def test_photos_in_the_trash_are_not_there(conn, refusal, order, owner):
    wish = order()
    images.set_deleted(conn, image_id=wish.image_ids[0], user_id=owner.id, deleted=True)
    assert "deleted in the meantime" in refusal(wish)["image"]


def test_rejected_photos_are_refused(conn, refusal, order, owner):
    torn = factories.make_image(conn, user=owner, name="torn.jpg", status="rejected")
    wish = order()
    assert refusal(replace(wish, image_ids=[torn.id])) == {
        "image": "torn.jpg is not readable. Leave it out."
    }
    assert refusal(replace(wish, reference_ids=[torn.id])).keys() == {"reference"}


def test_results_are_no_photos(conn, refusal, order, owner):
    result = factories.make_result(conn, user=owner)
    assert refusal(order(image_ids=[result.id])).keys() == {"image"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"image_ids": []}, "image"),
        ({"workflow_id": "missing"}, "workflow"),
        ({"variations": 0}, "variations"),
        ({"variations": 5}, "variations"),
        ({"pilot": -1}, "pilot"),
        ({"client_key": "short"}, "client_key"),
        ({"client_key": "x" * 101}, "client_key"),
    ],
)
def test_what_is_wrong_is_named(refusal, order, changes, field):
    assert refusal(order(**changes)).keys() == {field}


def test_all_that_is_wrong_is_named_at_once(refusal, order):
    fields = refusal(order(image_ids=[], workflow_id="missing", variations=9, pilot=-1))
    assert fields.keys() == {"image", "workflow", "variations", "pilot"}


def test_a_batch_has_a_most(refusal, create, order, make_settings):
    small = make_settings(MAX_JOBS_PER_BATCH="3", DAILY_PICTURES_PER_USER="5")
    assert refusal(order(variations=2), settings=small) == {
        "variations": "4 pictures are more than the 3 that one batch may have. "
        "5 more pictures may be made today. Nothing was sent or charged."
    }
    assert create(order(variations=1), settings=small)


@pytest.mark.parametrize(("most", "count"), [(0, 1), (2, 3)])
def test_a_workflow_takes_so_many_references(conn, refusal, order, owner, most, count):
    if most == 0:
        template = {
            "prompt": "{{ setting }}",
            "image_urls": "{{ image_urls }}",
            "seed": "{{ seed | default(none) }}",
        }
        factories.make_workflow(conn, max_references=0, request_template=template)
    references = [factories.make_image(conn, user=owner).id for _ in range(count)]
    assert refusal(order(reference_ids=references)).keys() == {"reference"}


def test_a_workflow_that_is_switched_off_takes_nothing_new(conn, refusal, order):
    wish = order()
    workflows.set_active(conn, workflow_id="basic-v1", is_active=False)
    assert "switched off" in refusal(wish)["workflow"]


def test_an_unknown_price_gives_no_estimate(conn, create, order):
    document = factories.document()
    conn.execute("UPDATE workflow_configs SET unit_price = NULL WHERE id = %s", [document["id"]])
    assert create(order()).estimate is None


def test_jobs_keep_the_version_that_was_ordered(conn, create, order, workflow):
    batch = create(order())
    factories.make_workflow(conn, name="Finer")
    (job, _) = factories.jobs_of(conn, batch)
    assert job.workflow_version_id == workflow.version_id
    assert batches.get(conn, batch_id=batch.id, user_id=job.user_id).definition["name"] == "Basic"


def test_cancelling_stops_what_has_not_started(conn, create, order, owner, other):
    batch = create(order(pilot=1))
    elsewhere = create(order())
    with pytest.raises(NotFound):
        batches.cancel(conn, batch_id=batch.id, user_id=other.id)
    assert batches.cancel(conn, batch_id=batch.id, user_id=owner.id) == 2
    assert {job.status for job in factories.jobs_of(conn, batch)} == {"cancelled"}
    assert {job.status for job in factories.jobs_of(conn, elsewhere)} == {"pending"}


def test_retrying_starts_only_what_failed(conn, settings, create, order, owner, other):
    batch = create(order())
    (first, second) = factories.jobs_of(conn, batch)
    with pytest.raises(Refused, match="Nothing to run again"):
        batches.retry(conn, settings, batch_id=batch.id, user_id=owner.id)
    fence = factories.claim(conn, first)
    jobs.fail(conn, job_id=first.id, fence=fence, error_code="refused", error_message="No.")
    jobs.cancel_waiting(conn, user_id=owner.id, job_id=second.id)
    with pytest.raises(NotFound):
        batches.retry(conn, settings, batch_id=batch.id, user_id=other.id)
    assert batches.retry(conn, settings, batch_id=batch.id, user_id=owner.id) == batch.id
    assert [job.status for job in factories.jobs_of(conn, batch)] == ["pending", "cancelled"]


def test_what_needs_an_unreadable_photo_is_not_started_again(conn, settings, create, order, owner):
    torn = factories.make_image(conn, user=owner, status="preparing")
    batch = create(order(reference_ids=[torn.id]))
    images.reject(conn, image_id=torn.id, fence=0, rejection="Not readable.")
    jobs.fail_of_image(conn, image_id=torn.id, error_code="unreadable", error_message="No.")
    with pytest.raises(Refused, match="could not be read"):
        batches.retry(conn, settings, batch_id=batch.id, user_id=owner.id)


def test_not_yours_is_not_there(conn, create, order, other):
    batch = create(order())
    with pytest.raises(NotFound, match="This batch does not exist"):
        batches.get(conn, batch_id=batch.id, user_id=other.id)
    assert jobs.list_cards(conn, batch_id=batch.id, user_id=other.id) == []


# --- The same again ---------------------------------------------------------------------------


def parents(conn, batch):
    found = conn.execute(
        "SELECT id, parent_id FROM processing_jobs WHERE batch_id = %s ORDER BY position",
        [batch.id],
    )
    return found.fetchall()


def test_a_child_comes_from_the_parents_pictures(conn, owner, create, order):
    fresh = factories.make_image(conn, user=owner, name="c.jpg")
    wish = order(variations=2)
    first = create(wish)
    assert (first.parent_id, {parent for _, parent in parents(conn, first)}) == (None, {None})
    photos = [*wish.image_ids, fresh.id]
    again = create(order(image_ids=photos, variations=3, parent_id=first.id))
    assert again.parent_id == first.id
    (a1, _), (a2, _), (b1, _), (b2, _) = parents(conn, first)
    assert [parent for _, parent in parents(conn, again)] == [a1, a2, None, b1, b2, *[None] * 4]


def test_a_parent_of_somebody_else(conn, other, create, order):
    foreign = factories.make_batch(conn, user=other)
    with pytest.raises(NotFound):
        create(order(parent_id=foreign.id))


def test_the_same_key_for_another_parent_is_another_wish(conn, create, order):
    first = create(order())
    wish = order(parent_id=first.id)
    assert create(wish) == create(wish)
    with pytest.raises(InvalidFields):
        create(replace(wish, parent_id=None))


def test_photos_to_make_again(conn, owner, create, order):
    batch = create(order())
    (done, _), (failed, _) = parents(conn, batch)
    conn.execute(
        "UPDATE processing_jobs SET status = 'cancelled', completed_at = now() WHERE id = %s",
        [done],
    )

    def names(scope, user=owner):
        found = batches.photos_again(conn, batch_id=batch.id, user_id=user.id, scope=scope)
        return [photo.original_filename for photo in found]

    assert names("all") == ["a.jpg", "b.jpg"]
    assert names("failed") == names("rejected") == []
    fence = factories.claim(conn, jobs.find(conn, job_id=failed))
    jobs.fail(conn, job_id=failed, fence=fence, error_code="refused", error_message="Refused.")
    assert names("failed") == ["b.jpg"]
    assert names("all", user=factories.make_user(conn)) == []


# --- Made again


@pytest.fixture
def made(conn, owner, create, order):
    """Two photos in two variations: three are done, of which one is rejected; one has failed."""
    batch = create(order(variations=2))
    first, *rest, last = factories.jobs_of(conn, batch)
    for job in (first, *rest):
        factories.move(conn, job, user=owner, status="completed")
    factories.move(conn, last, user=owner, status="failed")
    jobs.judge(conn, job_id=rest[0].id, user_id=owner.id, verdict="rejected", reason="fit", note="")
    return batch


def again(conn, settings, batch, **wish):
    """The batch that a retry answers, and where its jobs come from: (parent, variation, status)."""
    made_in = batches.retry(
        conn,
        settings,
        batch_id=batch.id,
        user_id=batch.user_id,
        client_key="the same click",
        **wish,
    )
    child = batches.get(conn, batch_id=made_in, user_id=batch.user_id)
    rows = jobs.list_cards(conn, batch_id=child.id, user_id=batch.user_id)
    return child, [(row.parent_id, row.variation, row.status) for row in rows]


def test_exactly_the_rejected_ones_are_made_by_a_child(conn, settings, made, owner):
    rejected = factories.jobs_of(conn, made)[1]
    child, rows = again(conn, settings, made, scope="rejected")
    assert child.parent_id == made.id
    assert (child.parameters, child.estimate) == (made.parameters, Decimal("0.0350"))
    assert rows == [(rejected.id, 1, "pending")]
    (job,) = factories.jobs_of(conn, child)
    assert job.parameters == rejected.parameters
    assert again(conn, settings, made, scope="rejected")[0].id == child.id, "the same click"
    assert factories.jobs_of(conn, made)[3].status == "failed"


def test_all_of_it_is_half_in_place_and_half_a_child(conn, settings, made):
    jobs_before = factories.jobs_of(conn, made)
    child, rows = again(conn, settings, made, scope="all")
    assert rows == [(job.id, job.variation, "pending") for job in jobs_before[:3]]
    statuses = [job.status for job in factories.jobs_of(conn, made)]
    assert statuses == ["completed"] * 3 + ["pending"]
    assert child.parent_id == made.id


def test_other_settings_make_a_child_of_failed_ones_too(conn, settings, made):
    failed = factories.jobs_of(conn, made)[3]
    child, rows = again(conn, settings, made, changes={"setting": "studio white"})
    assert child.parameters == {"setting": "studio white", "seed": 10}
    assert rows == [(failed.id, 1, "pending")]
    assert factories.jobs_of(conn, made)[3].status == "failed"
    with pytest.raises(InvalidFields):
        again(conn, settings, made, changes={"setting": "on the moon"})


def test_a_child_keeps_the_references(conn, settings, create, order, owner):
    reference = factories.make_image(conn, user=owner)
    batch = create(order(reference_ids=[reference.id]))
    for job in factories.jobs_of(conn, batch):
        factories.move(conn, job, user=owner, status="completed")
    child, _ = again(conn, settings, batch, scope="all")
    assert images.find_references(conn, batch_id=child.id) == [reference]


def test_settings_that_a_workflow_no_longer_takes_are_not_guessed(conn, settings, made):
    schema = factories.document()["parameter_schema"]
    schema["properties"]["setting"]["enum"] = ["studio white", "street"]
    factories.make_workflow(conn, parameter_schema=schema)
    with pytest.raises(Refused, match=r"other settings by now \(Setting\)"):
        again(conn, settings, made, scope="rejected")


def test_what_is_not_there_cannot_be_made_again(conn, settings, create, order):
    batch = create(order())
    for scope in ("failed", "rejected", "all"):
        with pytest.raises(Refused, match="Nothing to run again"):
            again(conn, settings, batch, scope=scope)
    with pytest.raises(InvalidFields):
        again(conn, settings, batch, scope="some")


# --- The rest of a pilot


@pytest.fixture
def fifty(conn, owner, create, order):
    """A pilot of two in fifty, whose two are done."""
    photos = [factories.make_image(conn, user=owner).id for _ in range(50)]
    batch = create(order(image_ids=photos, pilot=2))
    for job in factories.jobs_of(conn, batch)[:2]:
        factories.move(conn, job, user=owner, status="completed")
    return batch


def test_the_rest_is_made_as_it_was_ordered(conn, settings, fifty, owner, workflow):
    """Neither an edit of the workflow nor switching it off in between changes anything."""
    template = factories.document()["request_template"]
    factories.make_workflow(
        conn,
        unit_price=9,
        request_template=template | {"prompt": "Something else, {{ setting }}"},
        default_parameters={"setting": "outdoor"},
    )
    workflows.set_active(conn, workflow_id="basic-v1", is_active=False)
    assert batches.release(conn, batch_id=fifty.id, user_id=owner.id) == 48
    made = factories.jobs_of(conn, fifty)
    assert {job.workflow_version_id for job in made} == {workflow.version_id}
    assert {str(job.parameters) for job in made} == {str(fifty.parameters)}
    sent = []
    while task := jobs.claim_send(conn, lease_seconds=45, max_in_flight=99, max_per_user=None):
        sent.append(task)
    assert len(sent) == 48
    for task in sent:
        assert task.definition == workflow.definition
        assert task.parameters == fifty.parameters


def test_other_settings_for_the_rest_cancel_what_was_held(conn, create, order, fifty, owner):
    held = batches.photos_again(conn, batch_id=fifty.id, user_id=owner.id, scope="held")
    assert len(held) == 48
    child = create(
        order(
            image_ids=[photo.id for photo in held],
            parameters={"setting": "studio white"},
            parent_id=fifty.id,
        )
    )
    statuses = [job.status for job in factories.jobs_of(conn, fifty)]
    assert statuses == ["completed"] * 2 + ["cancelled"] * 48
    assert {job.status for job in factories.jobs_of(conn, child)} == {"pending"}


def test_a_child_of_a_few_leaves_the_others_held(conn, create, order, fifty):
    held = factories.jobs_of(conn, fifty)[2]
    create(order(image_ids=[held.original_image_id], parent_id=fifty.id))
    statuses = [job.status for job in factories.jobs_of(conn, fifty)]
    assert statuses == ["completed"] * 2 + ["cancelled"] + ["held"] * 47
