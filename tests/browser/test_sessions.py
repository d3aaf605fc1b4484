"""Leaving, in a real browser: nothing private is behind the back button or in the cache."""

import house as houses
import pictures
import pytest
from house import Visitor, wait_until
from playwright.sync_api import expect


@pytest.fixture
def email(somebody):
    return somebody().email


@pytest.fixture
def photo(house, email):
    """The address of a thumbnail of the user's."""
    visitor = Visitor(house, email)
    image = visitor.upload("secret-coat.jpg", pictures.jpeg(pictures.photo(size=(320, 240))))
    path = f"/images/{image['id']}?size=thumb"
    wait_until(lambda: visitor.get(path).status == 200, what="a thumbnail")
    return path


@pytest.mark.parametrize("scripted", [True, False], ids=["with-javascript", "without"])
def test_who_has_signed_out_leaves_nothing_behind(open_page, email, photo, scripted):
    page = open_page(java_script_enabled=scripted)
    page.goto("/login")
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(houses.PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    shown = page.locator(f'img[src="{photo}"]').first
    assert shown.evaluate("each => each.decode().then(() => each.naturalWidth)") > 0
    page.goto("/account")
    expect(page.get_by_text("this one")).to_be_visible()

    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/login")  # Clear-Site-Data has done its work, which has hung browsers
    assert page.context.cookies() == []

    for _ in range(2):  # the account page, the upload page
        page.go_back()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        assert email not in page.content()
        assert "secret-coat.jpg" not in page.content()
    page.goto(photo)
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
