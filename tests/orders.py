"""What the form of a new batch sends, for tests: three photos, one small workflow."""

KEY = "0123456789abcdef"


def order(photos, **changes):
    return {
        "image": [str(photo.id) for photo in photos],
        "workflow": "basic-v1",
        "setting": "outdoor",
        "client_key": KEY,
    } | changes


def make(browser, photos, **changes):
    return browser.json("/batches", method="POST", data=order(photos, **changes))


def new_url(photos, **more):
    return {"path": "/batches/new", "query_string": {"image": [p.id for p in photos], **more}}
