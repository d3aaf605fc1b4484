"""What Prometheus is told, and who may ask."""

import os
import re
import signal
from pathlib import Path
from uuid import uuid4

import factories
import pytest
import urllib3
from house import House, wait_until
from psycopg_pool import PoolTimeout
from scrapes import BEARER, TOKEN, numbers

from i2i.config import ROOT
from i2i.queries import workers


@pytest.fixture
def metered(app_with):
    return app_with(METRICS_TOKEN=TOKEN)


def test_without_a_token_there_is_no_such_page(anonymous):
    assert anonymous.get("/metrics", headers=BEARER).status_code == 404


@pytest.mark.parametrize(
    "header", [None, "Bearer wrong", "Basic eDp5", f"Bearer {TOKEN}x", "Bearer é"]
)
def test_only_the_bearer_of_the_token_is_told(metered, header):
    answer = metered.test_client().get(
        "/metrics", headers={"Authorization": header} if header else {}
    )
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].lower() == "bearer"
    assert b"i2i_" not in answer.data


def test_the_site_in_numbers(metered, conn):
    user = factories.make_user(conn)
    factories.make_job(conn, user=user, status="completed")
    factories.make_job(conn, user=user, status="pending")
    answer = metered.test_client().get("/metrics", headers=BEARER)
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain")
    found = numbers(answer.text)
    assert found["i2i_database_up"] == 1
    assert found["i2i_backup_age_seconds"] == float("inf"), "none was verified"
    assert found["i2i_jobs{status=pending}"] == 1
    assert found["i2i_jobs{status=unknown}"] == 0
    assert found["i2i_jobs_oldest_seconds{status=pending}"] >= 0
    assert "i2i_jobs_oldest_seconds{status=completed}" not in found
    assert found["i2i_workers"] == 0
    assert found["i2i_breaker_open"] == 0
    assert found["i2i_images{kind=upload}"] >= 1
    assert found["i2i_disk_free_bytes"] > 0
    (outcomes,) = conn.execute("SELECT count(*) FROM submissions").fetchone()
    assert sum(found[each] for each in found if each.startswith("i2i_submissions")) == outcomes


def test_the_breaker_and_money(metered, conn):
    factories.make_job(conn, user=factories.make_user(conn), status="unknown")
    conn.execute(
        "UPDATE breaker SET reason = 'balance', opened_at = now(), checked_at = now(), next_check_at = now()"
    )
    found = numbers(metered.test_client().get("/metrics", headers=BEARER).text)
    assert found["i2i_breaker_open"] == 1
    assert found["i2i_jobs_attention"] == 1
    assert found["i2i_submissions{charged=unknown,outcome=unknown}"] == 1


def test_a_worker_that_is_gone_is_no_trouble(metered, conn):
    workers.beat(
        conn, worker_id=uuid4(), host="a", process_id=7, release="", trouble="fal does not answer"
    )
    name = "i2i_worker_trouble{host=a,process=7}"

    def trouble():
        return numbers(metered.test_client().get("/metrics", headers=BEARER).text)[name]

    assert trouble() == 1
    conn.execute("UPDATE workers SET seen_at = now() - interval '1 minute'")
    assert trouble() == 0


def test_it_answers_without_a_database(metered):
    class Dead:
        def getconn(self):
            raise PoolTimeout("nothing came in 5 s")

    metered.extensions["i2i"].database.use(Dead())
    answer = metered.test_client().get("/metrics", headers=BEARER)
    assert answer.status_code == 200
    assert numbers(answer.text)["i2i_database_up"] == 0
    assert "i2i_jobs" not in numbers(answer.text)


def test_the_alerts_ask_for_what_is_there(metered, conn):
    """A name or a state that no scrape has would never wake anybody."""
    factories.make_job(conn, user=factories.make_user(conn))
    client = metered.test_client()
    client.get("/login")
    text = client.get("/metrics", headers=BEARER).text
    told = {each.rsplit("{")[0] for each in numbers(text)} | set(
        re.findall(r"^# TYPE (\w+)", text, flags=re.MULTILINE)
    )
    asked = re.findall(r"\b(i2i_\w+)(?:\{(\w+)=\"([^\"]+)\"\})?", " ".join(expressions()))
    assert len(asked) > 10
    for name, label, value in asked:
        assert name in told
        assert not label or f"{name}{{{label}={value}}}" in numbers(text)


def expressions():
    """What the rules of the alerts ask Prometheus, each on a line of its own."""
    rules = (ROOT / "docs" / "deploy" / "alerts.yml").read_text()
    return re.findall(r"^ +expr: (.+)$", rules, flags=re.MULTILINE)


def test_requests_of_all_processes_are_counted(database, tmp_path):
    """Each of gunicorn's processes answers some; any of them tells of all, also of one that ended.

    The one that takes its place counts on in its files: no others come, however often that happens.
    """
    house = House(database=database, folder=tmp_path, METRICS_TOKEN=TOKEN, WEB_CONCURRENCY="2")
    house.start_web()
    try:
        wait_until(house.is_ready, what="GET /readyz with 200")
        for _ in range(20):
            assert urllib3.request("GET", f"{house.url}/login").status == 200
        assert house.http.request("GET", f"{house.url}/nothing-here").status in {303, 404}
        found = numbers(
            house.http.request("GET", f"{house.url}/metrics", headers=BEARER).data.decode()
        )
        assert found["i2i_http_requests_total{method=GET,route=/login,status=200}"] == 20
        assert found["i2i_http_request_seconds_count{route=/login}"] == 20
        for child in children(house.processes["web"].pid):
            os.kill(child, signal.SIGKILL)
        wait_until(house.is_ready, what="GET /readyz with 200 from new processes")
        found = numbers(
            house.http.request("GET", f"{house.url}/metrics", headers=BEARER).data.decode()
        )
        assert found["i2i_http_requests_total{method=GET,route=/login,status=200}"] == 20
        assert urllib3.request("GET", f"{house.url}/login").status == 200
        found = numbers(
            house.http.request("GET", f"{house.url}/metrics", headers=BEARER).data.decode()
        )
        assert found["i2i_http_requests_total{method=GET,route=/login,status=200}"] == 21
        files = {file.name for file in (tmp_path / "metrics").iterdir()}
        assert files <= {
            f"{kind}_{place}.db" for kind in ("counter", "histogram") for place in (0, 1)
        }
    finally:
        house.stop()


def children(pid):
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
