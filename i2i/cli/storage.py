"""`flask storage`: whether the files of pictures are what the rows say."""

from collections.abc import Sequence

import click

from i2i.cli.console import Group, as_json, connection, print_json, print_table, say, settings
from i2i.errors import Refused, plural
from i2i.gateways.storage import make_storage
from i2i.models import StoredImage
from i2i.services import storage as service
from i2i.services.storage import Finding

group = Group("storage", help="The files of pictures.")


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
