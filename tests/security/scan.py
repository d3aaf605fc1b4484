"""`make scan`: wapiti and sqlmap, from PyPI, against the running whole; prints what they find.

Each is installed into a virtual environment in a temporary folder. wapiti crawls as a signed-in
user, through nginx and past it; sqlmap tries the fields that reach the database. Both go round
for some minutes (`--minutes`, for each run) and nothing leaves this machine. Exit 1 when one of
them has found something, for a person to read.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from house import PATIENCE
from stack import Stack
from town import Town

from i2i import embedded

LEFT_ALONE = ["logout", "sessions", "delete", "password"]
"""Addresses with these words are not followed: they would end the scan's own session."""

MODULES = [
    *("sql", "xss", "permanentxss", "exec", "file", "crlf", "redirect", "ssrf", "xxe", "csrf"),
    *("csp", "http_headers", "cookieflags"),
]
"""What wapiti tries; half of its time is for crawling, half is shared by these."""

EXPLAINED = {
    "Lack of anti CSRF token": "the browser says where a form comes from; row 52 tries every one",
    "X-Frame-Options is not set": "frame-ancestors 'none' says it; row 49",
    "Strict-Transport-Security is not set": "past nginx there is no TLS; row 48",
    "Secure flag is not set in the cookie : frames": "as before: it is set through nginx",
}
"""What wapiti reports and why it is none: counted, not shown."""


def install(folder, *, name, package):
    """The path of a program in a virtual environment of its own."""
    venv.create(folder / name, with_pip=True)
    pip = [folder / name / "bin" / "python", "-m", "pip", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", package], check=True)
    return folder / name / "bin" / name


def run(command, *, minutes, cwd):
    """Its output; cut off when it takes longer than it was told to."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * minutes * 60 + PATIENCE,
        )
    except subprocess.TimeoutExpired as error:
        return (error.stdout or b"").decode(errors="replace")
    return done.stdout + done.stderr


def wapiti(program, *, url, cookie, minutes, folder):
    """The findings by kind: lists of method, path, parameter and what wapiti says."""
    report = folder / "wapiti.json"
    run(
        [
            *(program, "-u", f"{url}/upload", "--scope", "domain", "--flush-session"),
            *("-H", f"Cookie: {cookie}", "-H", "Sec-Fetch-Site: same-origin"),
            *(option for word in LEFT_ALONE for option in ("-x", f"{url}/*{word}*")),
            *("--verify-ssl", "0", "--max-scan-time", str(minutes * 60), "--no-bugreport"),
            *("-m", ",".join(MODULES)),
            *("--max-attack-time", str(minutes * 60 / len(MODULES)), "-f", "json", "-o", report, "--store-session", folder),
        ],
        minutes=minutes,
        cwd=folder,
    )  # fmt: skip
    if not report.exists():
        return {"no report": [{"info": "wapiti was cut off before it wrote one"}]}
    content = json.loads(report.read_text())
    report.unlink()
    found = content["vulnerabilities"] | content["anomalies"]
    print(f"  {content['infos'].get('crawled_pages_nbr', '?')} pages crawled", flush=True)
    return {kind: entries for kind, entries in found.items() if entries}


def sqlmap(program, *, url, cookie, fields, minutes, folder, posted):
    """What sqlmap says it could inject into, in lines."""
    place = ["-u", url, "--data", fields] if posted else ["-u", f"{url}?{fields}"]
    said = run(
        [
            *(program, *place, "--batch", "--level", "2", "--risk", "1", "--threads", "2"),
            *("--cookie", cookie, "--headers", "Sec-Fetch-Site: same-origin", "--dbms", "postgresql"),
            *("--flush-session", "--output-dir", folder, "--disable-coloring", "--technique", "BEUS"),
            *("--ignore-code", "401,404,422", "--timeout", "20", "--param-exclude", "__Host-i2i"),
        ],
        minutes=minutes,
        cwd=folder,
    )  # fmt: skip
    tested = sum("testing if" in line or "is dynamic" in line for line in said.splitlines())
    print(f"  {url.rpartition('/')[2]}: {tested} looks at parameters", flush=True)
    return [line for line in said.splitlines() if "injectable" in line and "not" not in line]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    minutes = parser.parse_args().minutes
    findings = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        programs = {
            each: install(folder, name=each, package=package)
            for each, package in (("wapiti", "wapiti3"), ("sqlmap", "sqlmap"))
        }
        server = embedded.start_throwaway()
        stack = Stack(database=server.url, folder=folder / "stack")
        try:
            stack.house.flask("db", "migrate")
            stack.open()
            town = Town(stack)
            token = town.client("owner").cookies["__Host-i2i"]
            for url, cookie in (
                (stack.url, f"__Host-i2i={token}"),
                (stack.house.url, f"i2i={token}"),
            ):
                print(f"wapiti at {url}", flush=True)
                found = wapiti(
                    programs["wapiti"], url=url, cookie=cookie, minutes=minutes, folder=folder
                )
                known = 0
                for kind, entries in found.items():
                    for entry in entries:
                        if entry["info"] in EXPLAINED:
                            known += 1
                            continue
                        findings += 1
                        where = [entry.get(key) for key in ("method", "path", "parameter", "info")]
                        print(f"  {kind}: {' '.join(str(each) for each in where if each)}")
                print(f"  {known} explained in {Path(__file__).name}", flush=True)
            print("sqlmap", flush=True)
            things, cookie = town.things, f"i2i={token}"
            for path, fields, posted in (
                (
                    "/jobs",
                    "q=a&status=failed&workflow=basic-v1&verdict=none&from=2026-01-01",
                    False,
                ),
                ("/batches/new", f"image={things['image']}&workflow=basic-v1&preset=", False),
                (f"/batches/{things['batch']}/live", "since=1-going.0-1", False),
                ("/batches/estimate", f"image={things['image']}&workflow=basic-v1&seed=1", True),
                ("/presets", "workflow=basic-v1&setting=outdoor&preset_name=a", True),
                ("/login", "email=a@example.com&password=b&next=/jobs", True),
            ):
                for line in sqlmap(
                    programs["sqlmap"],
                    url=stack.house.url + path,
                    cookie="x=1" if path == "/login" else cookie,
                    fields=fields,
                    posted=posted,
                    minutes=minutes / 3,
                    folder=folder,
                ):
                    findings += 1
                    print(f"  {line}")
            town.conn.close()
        finally:
            stack.stop()
            server.remove()
    print(f"{findings} findings")
    return min(findings, 1)


if __name__ == "__main__":
    sys.exit(main())
