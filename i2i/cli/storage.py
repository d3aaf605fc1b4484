"""`flask storage`: whether the files of pictures are what the rows say."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from i2i.cli.console import Group, as_json, connection, print_json, print_table, say, settings
from i2i.config import Problem, store_url
from i2i.errors import Refused, StorageError, plural
from i2i.gateways.storage import make_storage
from i2i.models import StoredImage
from i2i.services import storage as service
from i2i.services.storage import Copying, Finding

group = Group("storage", help="The files of pictures.")

PROGRESS_SECONDS = 10


@group.command()
@click.option("--repair", is_flag=True, help="Mend what can be mended, mark what is lost.")
@as_json
def check(*, repair: bool, json_: bool) -> None:
    """Hold every file against its row: missing, changed, or without a row. Exit 1 when any is."""
    storage = make_storage(settings().blob_url, data_dir=settings().data_dir)
    with connection() as conn:
        report = service.check(conn, storage)
        findings = report.findings
        if repair:
            findings = service.repair(conn, storage, settings(), report=report)
    if json_:
        print_json(
            {
                "images": report.images,
                "files": report.files,
                "findings": [_as_json(each) for each in findings],
                "known_lost": [_facts(each) for each in report.known],
            }
        )
    else:
        _print(findings)
        known = f"; {plural(len(report.known), 'file')} known to be lost" if report.known else ""
        say(f"{plural(report.images, 'image')} and {plural(report.files, 'file')} checked{known}.")
    if left := sum(not each.mended for each in findings):
        hint = "" if repair else " What --repair does: docs/reference.md."
        words = (
            "1 file is not as it should be"
            if left == 1
            else f"{left:,} files are not as they should be"
        )
        raise Refused(f"{words}.{hint}")


@group.command()
@click.argument("source", metavar="FROM", callback=lambda *given: _store_url(given[-1]))
@click.argument("target", metavar="TO", callback=lambda *given: _store_url(given[-1]))
def copy(source: str, target: str) -> None:
    """Copy every file from one store to another: file:///path or s3://bucket/prefix.

    What is there already is left alone, so it goes on where it was interrupted. Nothing is deleted.
    Exit 1 when the other store does not have everything.
    """
    if source == target:
        raise Refused("Both are the same store.")
    if source.startswith("file:") and not Path(source.removeprefix("file://")).is_dir():
        raise Refused("There is no such folder to copy from.")
    data_dir = settings().data_dir
    stores = [make_storage(url, data_dir=data_dir) for url in (source, target)]
    try:
        with connection() as conn:
            copying = service.copy(conn, *stores, show=_now_and_then(_say_how_far))
    except StorageError as error:
        raise Refused(f"{error} Stopped half-way; the same command goes on from there.") from error
    _print(copying.findings)
    copied = f"{plural(copying.files, 'file')} ({_size(copying.size)}) copied by this run"
    if count := len(copying.findings):
        words = "1 file is" if count == 1 else f"{count:,} files are"
        raise Refused(
            f"{words} not in {target}, as listed; all others are, {copied}. Nothing was deleted. "
            "The same command tries these again."
        )
    known = f"; {plural(copying.known, 'file')} known to be lost" if copying.known else ""
    say(f"Complete: {plural(copying.images, 'image')} in {target}, {copied}{known}.")


def _store_url(text: str) -> str:
    """The one way to write it, so that the same store is seen to be the same."""
    try:
        url = store_url(text)
    except Problem as problem:
        raise click.BadParameter(str(problem)) from None
    return url.rstrip("/") if url.strip("/") != "file:" else url


def _now_and_then(say_it: Callable[[Copying], None]) -> Callable[[Copying], None]:
    """At most once in PROGRESS_SECONDS."""
    last = time.monotonic()

    def show(copying: Copying) -> None:
        nonlocal last
        if time.monotonic() - last >= PROGRESS_SECONDS:
            last = time.monotonic()
            say_it(copying)

    return show


def _say_how_far(copying: Copying) -> None:
    say(
        f"{copying.images:,} of {plural(copying.all_images, 'image')} looked at, "
        f"{plural(copying.files, 'file')} ({_size(copying.size)}) copied."
    )


def _size(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"


def _print(findings: Sequence[Finding]) -> None:
    if not findings:
        return
    print_table(
        ["WHAT", "FILE", "NAME", "DONE"],
        [
            (
                each.kind,
                each.key,
                each.image.original_filename if each.image else None,
                each.done or None,
            )
            for each in findings
        ],
    )


def _as_json(finding: Finding) -> dict[str, object]:
    facts = _facts(finding.image) if finding.image else {}
    return {
        "kind": finding.kind,
        "key": finding.key,
        "done": finding.done or None,
        "mended": finding.mended,
        **facts,
    }


def _facts(image: StoredImage) -> dict[str, object]:
    return {
        "image_id": image.id,
        "user_id": image.user_id,
        "original_filename": image.original_filename,
        "is_result": image.is_processed,
        "lost_at": image.lost_at,
    }
