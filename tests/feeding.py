"""Feeds files to the running house, one after the other, and tells what became of each."""

import re
import time
from dataclasses import dataclass

from house import wait_until

from i2i import imaging

BOUNDARY = "----the-only-boundary"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"

CODES = {sentence: code for code, sentence in imaging.SENTENCES.items()}

DECODED = re.compile(
    r"decoded \S*/([0-9a-f-]{36})/original\S* in ([0-9.]+) s, ([0-9.]+) s of a core; ([0-9]+) MB"
)


@dataclass(kw_only=True)
class Fed:
    """What became of a file.

    Attributes:
        outcome: as in hostile.Hostile.expected.
        words: the reason given to the user, if any.
        facts: the image's, when it was taken.
        seconds: until the answer, and in the decoder.
        processor: seconds of a core in the decoder; its limit where it was killed.
        megabytes: the largest decoder until then.
    """

    file: object
    outcome: str
    words: str = ""
    facts: dict | None = None
    seconds: float = 0.0
    processor: float = 0.0
    megabytes: int = 0


def multipart(file):
    """The body that holds one file; any object with `disposition` and `data`."""
    head = b"--%s\r\nContent-Disposition: %s\r\n\r\n" % (BOUNDARY.encode(), file.disposition)
    return head + file.data + b"\r\n--%s--\r\n" % BOUNDARY.encode()


def feed(files, *, post, house):
    """Send all, wait until the worker has looked at what was taken, and return a Fed each.

    Args:
        files: what `multipart` takes.
        post: sends a body to POST /images and returns an answer of urllib3.
        house: the House behind it, with one worker.
    """
    found = [_send(file, post=post) for file in files]
    taken = {each.facts["id"]: each for each in found if each.facts}
    states = wait_until(lambda: _states(house, list(taken)), what="the end of all decoding")
    for image_id, status, rejection in states:
        code = CODES.get(rejection, rejection)
        taken[image_id].outcome = "ready" if status == "ready" else f"rejected {code}"
        taken[image_id].words = rejection or ""
        taken[image_id].processor = imaging.CPU_SECONDS
    log = (house.folder / "worker.log").read_text(encoding="utf-8", errors="replace")
    for image_id, seconds, processor, megabytes in DECODED.findall(log):
        if each := taken.get(image_id):
            each.seconds += float(seconds)
            each.processor = float(processor)
            each.megabytes = int(megabytes)
    return found


def _send(file, *, post):
    begin = time.monotonic()
    answer = post(multipart(file))
    seconds = time.monotonic() - begin
    said = answer.json()
    if answer.status == 201:
        return Fed(file=file, outcome="?", facts=said["images"][0], seconds=seconds)
    error = said["errors"][0] if answer.status == 422 else {"code": str(answer.status)}
    words = error.get("message", said.get("error", ""))
    return Fed(file=file, outcome=error["code"], words=words, seconds=seconds)


def _states(house, image_ids):
    """Id, status and rejection of all, once none is being prepared."""
    rows = house.query(
        "SELECT id::text, status, rejection FROM images WHERE id = ANY(%s::uuid[])", image_ids
    )
    return rows if all(status != "preparing" for _, status, _ in rows) else None
