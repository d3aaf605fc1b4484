"""Watching a batch: live, by keyboard, from two places, over lost connections; and without JavaScript."""

import secrets
from itertools import pairwise

import pictures
import pytest
from house import Visitor, wait_until
from playwright.sync_api import expect

NAMES = ("astronaut.png", "coffee.png", "rocket.jpg")

WATCH = """
window.shift = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""
"""Adds up how far things on the page have jumped."""

COUNT = """
window.asked = [];
window.answered = 0;
const real = window.fetch;
window.fetch = async (...args) => {
  window.asked.push(Date.now());
  const answer = await real(...args);
  await answer.clone().text();
  window.answered += 1;
  return answer;
};
"""
"""Keeps the times of all requests, by the page's own clock."""


@pytest.fixture(scope="module")
def visitor(house, somebody):
    return Visitor(house, somebody().email)


@pytest.fixture(scope="module")
def photos(house, visitor):
    """The ids of three photos that are ready."""
    ids = [visitor.upload(name, pictures.jpeg(pictures.photo(name)))["id"] for name in NAMES]
    wait_until(
        lambda: all(
            visitor.get(f"/images/{each}", Accept="application/json").json()["status"] == "ready"
            for each in ids
        ),
        what="three ready photos",
    )
    return ids


@pytest.fixture
def make(visitor, photos):
    """Makes a batch of the three photos; its JSON."""

    def make_one(**fields):
        sent = [("image", each) for each in photos]
        sent += [("workflow", "mannequin-to-human-v1"), ("client_key", secrets.token_hex(8))]
        return visitor.post("/batches", [*sent, *fields.items()]).json()

    return make_one


@pytest.fixture
def idle(house):
    """Nothing is made while this lasts; the worker is back afterwards."""
    house.end("worker")
    yield
    if "worker" not in house.processes:
        house.start_worker()


@pytest.fixture
def enter(open_page, visitor):
    """Opens pages as the visitor."""

    def enter_one(**options):
        page = open_page(**options)
        name, _, value = visitor.headers["Cookie"].partition("=")
        page.context.add_cookies([{"name": name, "value": value, "url": visitor.house.url}])
        return page

    return enter_one


def faults(house, mode, count):
    """The next requests fare like this; what other tests have asked for has left by then."""
    waiting = "SELECT count(*) FROM processing_jobs WHERE status IN ('pending', 'submitting')"
    wait_until(lambda: house.query(waiting) == [(0,)], what="an empty line")
    answer = house.http.request(
        "POST", f"{house.practice_url}/faults", json={"mode": mode, "count": count}
    )
    assert answer.status == 200


def card(page, name):
    return page.locator("article", has=page.get_by_role("link", name=name))


def test_a_batch_is_made_before_ones_eyes(house, idle, enter, make):
    batch = make()
    page = enter(viewport={"width": 1280, "height": 900})
    page.add_init_script(WATCH)
    page.goto(batch["url"])
    page.evaluate("window.same = true")
    expect(page).to_have_title("(0/3) Batch – i2i")
    expect(card(page, "coffee.png").locator(".state")).to_contain_text("2nd")
    elsewhere = enter()
    elsewhere.goto(batch["url"])

    # By keyboard, where the reader is: no new page, and the focus stays at the picture.
    card(page, "astronaut.png").get_by_role("button", name="Cancel").focus()
    page.keyboard.press("Enter")
    expect(card(page, "astronaut.png").locator(".state")).to_contain_text("Cancelled not charged")
    assert page.evaluate("document.activeElement.closest('article')?.innerText").startswith(
        "astron"
    )
    expect(card(page, "coffee.png").locator(".state")).to_contain_text("1st")
    page.get_by_role("button", name="Cancel 2 waiting").click()
    expect(page.locator("#status")).to_have_text("0 of 3 done, 3 cancelled.")
    for name in NAMES:
        card(page, name).get_by_role("button", name="Run again").click()
        expect(card(page, name).locator(".word")).to_have_text("Waiting")

    in_bar = page.locator(f'.running[href="{batch["url"]}"]')
    expect(in_bar).to_contain_text("0 of 3")
    shifted = page.evaluate("window.shift")
    house.start_worker()
    expect(page.locator("#status")).to_contain_text("All 3 done in")
    expect(page).to_have_title("(3/3) Batch – i2i")
    expect(in_bar).to_have_count(0)
    expect(page.locator("article .inset")).to_have_count(3)
    expect(page.locator("#strip .cell-done")).to_have_count(3)
    expect(page.get_by_role("link", name="Review 3 pictures")).to_be_visible()
    assert page.evaluate("window.same") is True
    assert page.evaluate("window.shift") == pytest.approx(shifted, abs=0.001)

    # The other place was left open and is looked at again.
    expect(elsewhere.locator("#status")).to_contain_text("All 3 done in")


def test_it_asks_less_and_less_and_not_when_hidden(idle, enter, make, visitor):
    batch = make()
    page = enter()
    page.clock.install()
    page.add_init_script(COUNT)
    page.goto(batch["url"])

    def let_pass(seconds):
        for _ in range(seconds):
            page.clock.run_for(1000)
            wait_until(
                lambda: page.evaluate("window.answered === window.asked.length"), what="an answer"
            )

    page.clock.pause_at(page.evaluate("Date.now() + 100"))
    let_pass(60)
    asked = page.evaluate("window.asked")
    pauses = [round((late - soon) / 1000) for soon, late in pairwise(asked)]
    assert 2 <= pauses[0] <= 4, "the clock goes by seconds here"
    assert pauses == sorted(pauses)
    assert pauses[-1] == 10

    page.evaluate("Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    let_pass(30)
    assert page.evaluate("window.asked.length") == len(asked)
    visitor.post(f"{batch['url']}/cancel")
    page.evaluate("Object.defineProperty(document, 'hidden', { value: false, configurable: true })")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("#status")).to_have_text("0 of 3 done, 3 cancelled.")
    let_pass(30)
    assert page.evaluate("window.asked.length") == len(asked) + 1, "finished: nothing to ask"


def test_a_lost_connection_is_survived(idle, enter, make, visitor):
    batch = make()
    page = enter()
    page.clock.install()
    page.goto(batch["url"])
    status = page.locator("#status")
    said = status.inner_text()
    page.context.set_offline(True)
    page.clock.run_for(20_000)
    page.clock.run_for(20_000)
    expect(status).to_contain_text("Connection lost.")
    page.context.set_offline(False)
    expect(status).to_have_text(said)
    visitor.post(f"{batch['url']}/cancel")
    page.clock.run_for(15_000)
    expect(status).to_have_text("0 of 3 done, 3 cancelled.")


def test_a_pilot_is_released_as_it_was_ordered(house, enter, make, visitor):
    batch = make(pilot="1", aspect_ratio="3:4")
    page = enter()
    page.goto(batch["url"])
    expect(page.get_by_role("heading", name="Good so far?")).to_be_visible()
    switch = "UPDATE workflow_configs SET is_active = %s WHERE id = %s RETURNING id"
    house.query(switch, False, "mannequin-to-human-v1")
    try:
        page.get_by_role("button", name="Make the other 2").click()
        expect(page.locator("#status")).to_contain_text("All 3 done in")
    finally:
        house.query(switch, True, "mannequin-to-human-v1")
    assert page.get_by_role("heading", name="Good so far?").count() == 0
    jobs = visitor.get(batch["url"]).json()["jobs"]
    assert len({str(job["parameters"] | {"seed": 0}) for job in jobs}) == 1


def test_failed_ones_run_again(house, enter, make):
    faults(house, "unprocessable", 2)
    page = enter()
    page.goto(make()["url"])
    page.get_by_role("button", name="Retry 2 failed").click()
    expect(page.locator("#status")).to_contain_text("All 3 done in")


def test_what_was_perhaps_charged_is_asked_first(house, enter, make):
    faults(house, "model_error", 1)
    page = enter()
    page.goto(make()["url"])
    page.get_by_role("button", name="Retry 1 failed…").click()
    expect(page.get_by_role("heading", name="Run 1 picture again?")).to_be_visible()
    page.get_by_role("button", name="Send all again, may be charged twice").click()
    expect(page.locator("#status")).to_contain_text("All 3 done in")


def finished(house, visitor, batch):
    wait_until(
        lambda: visitor.get(batch["url"]).json()["counts"] == {"completed": 3}, what="three results"
    )
    return batch


def test_the_same_again_but_different(house, enter, make, visitor):
    batch = finished(house, visitor, make(aspect_ratio="3:4"))
    visitor.post(f"{batch['jobs'][0]['url']}/verdict", {"verdict": "rejected", "reason": "fit"})
    page = enter()
    page.goto(batch["url"])
    page.get_by_role("button", name="Run 1 rejected again").click()
    expect(page.get_by_role("link", name="batch of today")).to_be_visible()
    expect(page.locator("article")).to_have_count(1)
    expect(page.locator("#status")).to_contain_text("Done in")
    before = visitor.get(batch["url"]).json()["jobs"][0]["result_url"]
    assert page.locator("article .inset").get_attribute("src") == f"{before}?size=thumb"

    page.get_by_role("link", name="batch of today").click()
    expect(page.get_by_role("link", name="Made again today")).to_be_visible()
    page.get_by_role("link", name="Rejected again, but…").click()
    page.get_by_role("radio", name="16:9", exact=True).check()
    page.get_by_role("button", name="Make 1 picture").click()
    expect(page.locator(".lineage")).to_contain_text("16:9, was 3:4")


def test_all_of_it_without_javascript(house, idle, enter, make):
    batch = make(pilot="1")
    page = enter(java_script_enabled=False, viewport={"width": 360, "height": 740})
    page.goto(batch["url"])
    expect(page.locator("#status")).to_contain_text("0 of 3 done, 2 held.")
    card(page, "astronaut.png").get_by_role("button", name="Cancel").click()
    expect(card(page, "astronaut.png").locator(".word")).to_have_text("Cancelled")
    page.get_by_role("button", name="Make the other 2").click()
    page.get_by_role("button", name="Cancel 2 waiting").click()
    expect(page.locator("#status")).to_have_text("0 of 3 done, 3 cancelled.")
    card(page, "astronaut.png").get_by_role("button", name="Run again").click()
    expect(card(page, "astronaut.png").locator(".word")).to_have_text("Waiting")
    house.start_worker()
    for _ in range(200):
        if page.get_by_text("1 of 3 done, 2 cancelled.").is_visible():
            break
        page.get_by_role("link", name="Look again").click()
    expect(page.get_by_role("link", name="Review 1 picture")).to_be_visible()
    page.get_by_role("link", name="Same again, but…").click()
    page.get_by_role("radio", name="16:9", exact=True).check()
    page.get_by_role("button", name="Make 3 pictures").click()
    expect(page.locator(".lineage")).to_contain_text("16:9, was")
