"""What an operator does, in a real browser, beside the one it is done for; with JavaScript and without."""

import re
import secrets

import house as houses
import pictures
import pytest
from house import Visitor, wait_until
from playwright.sync_api import expect

ADMIN = "admin@example.com"
NEW_PASSWORD = "a sentence of my own making"


@pytest.fixture(scope="module")
def admin(house):
    """The operator as a client."""
    house.make_user(ADMIN, role="admin")
    return Visitor(house, ADMIN)


def enter(page, email, password):
    page.goto("/login")
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def own_password(page, given):
    """Past the page that lets nobody on who still has the password that somebody else made."""
    expect(page.get_by_role("heading", level=1)).to_have_text("Choose your own password")
    assert not is_in(page)
    page.get_by_label("New password").fill(given)
    page.get_by_role("button", name="Save the password").click()
    expect(page.get_by_text("This is the one you were given.")).to_be_visible()
    page.get_by_label("New password").fill(NEW_PASSWORD)
    page.get_by_role("button", name="Save the password").click()
    expect(page.get_by_role("heading", name="Upload", exact=True)).to_be_visible()
    return NEW_PASSWORD


def is_in(page):
    """Whether the pages still know who looks."""
    page.goto("/upload")
    return page.get_by_role("heading", name="Upload", exact=True).is_visible()


def test_an_account_from_its_first_day_to_its_last(house, admin, open_page):
    office, home = (open_page(java_script_enabled=False) for _ in range(2))
    email = f"newcomer-{secrets.token_hex(4)}@example.com"
    enter(office, ADMIN, houses.PASSWORD)
    office.get_by_role("link", name="Admin", exact=True).click()
    expect(office.get_by_role("heading", name="Health")).to_be_visible()
    office.get_by_role("link", name="Users", exact=True).click()
    office.get_by_label("E-mail").fill(email)
    office.get_by_role("button", name="Make the account").click()
    first = office.locator(".secret").inner_text()
    enter(home, email, first)
    password = own_password(home, first)
    assert is_in(home)

    office.get_by_role("link", name="I have it").click()
    expect(office.get_by_role("heading", level=1)).to_have_text(email)
    assert first not in office.content()
    office.get_by_role("button", name="Take off the whitelist").click()
    expect(office.get_by_text("May not sign in.")).to_be_visible()
    assert not is_in(home)
    enter(home, email, password)
    expect(home.get_by_role("alert")).to_contain_text("do not match an account")
    office.get_by_role("button", name="Let them sign in").click()
    enter(home, email, password)
    assert is_in(home)

    office.get_by_role("button", name="Make them an admin").click()
    home.goto("/admin/usage")
    home.get_by_label("First day").fill("the first")
    home.get_by_role("button", name="Show").click()
    expect(home.get_by_role("alert")).to_contain_text("These days cannot be shown")
    assert home.get_by_label("First day").input_value() == "the first"
    office.get_by_role("button", name="Make them a user").click()
    assert home.reload().status == 404

    office.get_by_role("button", name="Sign them out everywhere").click()
    assert not is_in(home)
    office.get_by_role("button", name="Make a new password").click()
    second = office.locator(".secret").inner_text()
    assert second != first
    enter(home, email, password)
    expect(home.get_by_role("alert")).to_be_visible()
    enter(home, email, second)
    own_password(home, second)
    assert is_in(home)

    office.get_by_role("link", name="I have it").click()
    office.get_by_role("link", name="Delete the account…").click()
    expect(office.get_by_text("0 photos and 0 pictures")).to_be_visible()
    office.get_by_role("button", name=f"Delete {email}").click()
    expect(office.get_by_role("heading", name="Users")).to_be_visible()
    assert office.get_by_role("link", name=email).count() == 0
    assert not is_in(home)


def a_picture(visitor, *, workflow):
    """The path of a job of this workflow that has come to its end."""
    photo = visitor.upload("sample.jpg", pictures.jpeg(pictures.photo("coffee.png")))
    fields = {"image": photo["id"], "workflow": workflow, "client_key": secrets.token_hex(8)}
    batch = visitor.post("/batches", fields).json()
    wait_until(
        lambda: visitor.get(batch["url"]).json()["counts"] == {"completed": 1}, what="a picture"
    )


def test_a_workflow_from_a_fault_to_its_card(house, admin, open_page):
    office, home = (open_page(java_script_enabled=False) for _ in range(2))
    name, key = f"Linen {secrets.token_hex(4)}", f"linen-{secrets.token_hex(4)}"
    enter(office, ADMIN, houses.PASSWORD)
    office.goto("/admin/workflows")
    office.get_by_role("link", name="Mannequin to human 1").click()
    office.get_by_role("link", name="New workflow from this one").click()
    document = office.get_by_label("Definition")
    right = document.input_value().replace("new-id", key).replace("Mannequin to human 1", name)
    wrong = right.replace("maximum = 100\n", 'maximum = "100"\n', 1)
    assert wrong != right
    document.fill(wrong)
    office.get_by_role("button", name="Save as version 1").click()
    summary = office.get_by_role("alert")
    expect(summary).to_contain_text("Not saved. The document has a fault; nothing was made.")
    expect(office.locator(".error-lines .bad")).to_contain_text('maximum = "100"')
    assert document.input_value().strip() == wrong.strip()

    document.fill(right)
    office.get_by_role("button", name="Save as version 1").click()
    expect(office.get_by_role("heading", level=1)).to_have_text(name)
    better = right.replace("The everyday one.", "For linen.")
    document.fill(better)
    office.get_by_role("button", name="Check and preview").click()
    expect(office.get_by_role("heading", name="What users see")).to_be_visible()
    expect(office.locator(".workflow-preview pre")).to_contain_text('"prompt"')
    assert document.input_value().strip() == better.strip()
    office.get_by_role("button", name="Save as version 2").click()
    office.get_by_text("Version 2", exact=True).click()
    expect(office.get_by_role("region", name="Changed lines of version 2")).to_contain_text("linen")

    expect(office.get_by_text("You have no finished picture of this workflow.")).to_be_visible()
    a_picture(admin, workflow=key)
    office.reload()
    office.get_by_role("radio", name="sample.jpg").check()
    office.get_by_role("button", name="Use as sample").click()
    expect(office.get_by_text("On the card now.")).to_be_visible()

    visitor = Visitor(house, houses.OTHER)
    photo = visitor.upload("mine.jpg", pictures.jpeg(pictures.photo("rocket.jpg")))
    enter(home, houses.OTHER, houses.PASSWORD)
    home.goto(f"/batches/new?image={photo['id']}")
    home.get_by_role("button", name=re.compile(name)).click()
    card = home.locator(".workflow", has_text=name)
    expect(card).to_contain_text("For linen.")
    shown = card.locator("img").evaluate_all("all => all.map(each => each.naturalWidth > 0)")
    assert shown == [True, True]

    office.get_by_role("button", name="Switch off").click()
    expect(office.get_by_text("Switched off: users do not see it.")).to_be_visible()
    home.goto(f"/batches/new?image={photo['id']}")
    assert home.get_by_text(name).count() == 0
