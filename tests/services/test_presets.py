"""Settings under names of the user's own."""

import factories
import pytest

from i2i.errors import InvalidFields, NotFound
from i2i.queries import presets as queries
from i2i.services import presets
from i2i.services import workflows as workflow_service

STUDIO = {"setting": "studio white"}
OUTDOOR = {"setting": "outdoor", "seed": 7}


@pytest.fixture
def save(conn, owner):
    factories.make_workflow(conn)

    def make(name="Lookbook", *, user=owner, workflow="basic-v1", parameters=STUDIO, replace=False):
        return presets.save(
            conn,
            user_id=user.id,
            workflow_name=workflow,
            name=name,
            parameters=parameters,
            replace=replace,
        )

    return make


@pytest.fixture
def kept(conn, owner):
    """The owner's presets as (name, parameters)."""
    return lambda: [
        (each.name, each.parameters) for each in queries.list_of_user(conn, user_id=owner.id)
    ]


def refusal(action, *args, **kwargs):
    with pytest.raises(InvalidFields) as refused:
        action(*args, **kwargs)
    return refused.value.fields


def test_names_are_tidied_and_sorted_without_regard_to_capitals(save, kept):
    save("  street \t light ")
    save("Autumn", parameters=OUTDOOR)
    save("zebra")
    assert kept() == [("Autumn", OUTDOOR), ("street light", STUDIO), ("zebra", STUDIO)]


@pytest.mark.parametrize("name", ["", "  ", "x" * 61])
def test_names_that_are_none(save, kept, name):
    assert refusal(save, name).keys() == {"preset_name"}
    assert kept() == []


def test_the_same_click_again_changes_nothing(save, kept):
    assert save() == save()
    assert kept() == [("Lookbook", STUDIO)]


def test_a_name_is_taken_for_other_settings_until_it_is_replaced(save, kept):
    first = save()
    assert "Choose another name" in refusal(save, "LOOKBOOK", parameters=OUTDOOR)["preset_name"]
    assert kept() == [("Lookbook", STUDIO)]
    assert save("LookBook", parameters=OUTDOOR, replace=True) == first
    assert kept() == [("LookBook", OUTDOOR)]


def test_the_same_name_for_another_workflow_and_another_user(conn, other, save, kept):
    factories.make_workflow(conn, id="other-v1", name="Other")
    save()
    save(workflow="other-v1")
    save(user=other)
    assert len(kept()) == 2


def test_a_workflow_that_is_none(save):
    assert refusal(save, workflow="nowhere").keys() == {"workflow"}


def test_there_is_an_end(save, kept):
    for number in range(presets.MOST):
        save(f"Number {number}")
    for replace in (False, True):
        fields = refusal(save, "One more", replace=replace)
        assert "Delete one first" in fields["preset_name"]
    save("Number 1", parameters=OUTDOOR, replace=True)
    assert len(kept()) == presets.MOST


def test_renaming(conn, owner, save, kept):
    first, _ = save("Old"), save("Taken")
    presets.rename(conn, preset_id=first, user_id=owner.id, name=" New ")
    assert [name for name, _ in kept()] == ["New", "Taken"]
    for name in ("", "x" * 61, "taken"):
        fields = refusal(presets.rename, conn, preset_id=first, user_id=owner.id, name=name)
        assert fields.keys() == {"name"}
    presets.rename(conn, preset_id=first, user_id=owner.id, name="NEW")
    assert [name for name, _ in kept()] == ["NEW", "Taken"]


def test_those_of_others_are_out_of_reach(conn, other, save, kept):
    mine = save()
    with pytest.raises(NotFound):
        presets.rename(conn, preset_id=mine, user_id=other.id, name="Theirs")
    with pytest.raises(NotFound):
        presets.delete(conn, preset_id=mine, user_id=other.id)
    assert kept() == [("Lookbook", STUDIO)]


def test_deleting(conn, owner, save, kept):
    mine = save()
    presets.delete(conn, preset_id=mine, user_id=owner.id)
    assert kept() == []


def test_presets_go_with_their_workflow(conn, save, kept):
    save()
    workflow_service.delete(conn, workflow_id="basic-v1")
    assert kept() == []
