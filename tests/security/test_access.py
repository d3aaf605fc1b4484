"""Rows 24 to 29: who may see and do what, and that two clicks at once are one."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from pictures import jpeg, photo

pytestmark = pytest.mark.security


def test_row_29_twenty_submits_with_one_key_are_one_batch(stack):
    """That parallel uploads share one quota is row 29 of test_uploads.py."""
    visitor = stack.visitor("hasty@example.com")
    image = visitor.upload("coat.jpg", jpeg(photo(size=(300, 200)), quality=71))
    order = {
        "image": image["id"],
        "workflow": "mannequin-to-human-v1",
        "client_key": "one key only",
    }
    with ThreadPoolExecutor(20) as threads:
        sent = [
            threads.submit(visitor.request, "POST", "/batches", fields=order) for _ in range(20)
        ]
        answers = [each.result() for each in sent]
    assert {answer.status for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    ((batches, jobs),) = stack.house.query(
        "SELECT count(DISTINCT batch.id), count(job.id) FROM batches AS batch"
        " JOIN processing_jobs AS job ON job.batch_id = batch.id"
        " JOIN users ON users.id = batch.user_id WHERE users.email = 'hasty@example.com'"
    )
    assert (batches, jobs) == (1, 1)
