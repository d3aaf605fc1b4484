"""`flask backup`: everything in a folder, proof that it is whole, and the way back."""

import contextlib
from pathlib import Path

import click
import psycopg

from i2i import db
from i2i.cli.console import Group, connection, database_settings, first_line, say, settings, warn
from i2i.cli.db import apply_pending
from i2i.errors import DatabaseUnavailable, Refused, plural
from i2i.gateways.dumps import MANIFEST, Shelf
from i2i.gateways.storage import make_storage
from i2i.services import backup as service

group = Group("backup", help="Copies of everything, and the way back.")

SHOWN = 20
"""Findings that are listed; a store that is gone would fill the screen."""

folder = click.argument("folder", type=click.Path(file_okay=False, path_type=Path))


def choose(given: Path) -> tuple[Shelf, str]:
    """The backup that a path names, or the newest of a folder; Refused when there is none."""
    given = given.absolute()
    if (given / MANIFEST).exists():
        return Shelf(given.parent), given.name
    shelf = Shelf(given)
    names = shelf.names()
    if not names:
        raise Refused(f"There is no backup in {given}. Make one: flask backup create {given}")
    return shelf, names[-1]


@group.command()
@folder
def create(folder: Path) -> None:
    """Back up database and pictures into a folder, while everything runs."""
    url = db.direct_url(database_settings())
    storage = make_storage(settings().blob_url, data_dir=settings().data_dir)
    with connection() as conn:
        made = service.create(conn, storage, url=url, shelf=Shelf(folder.absolute()))
    say(
        f"{made.name}: {plural(made.images, 'image')}, {plural(made.files, 'file')}, "
        f"{made.copied:,} of them new."
    )
    if made.deleted:
        say(f"{plural(len(made.deleted), 'file')} deleted by users meanwhile.")
    for key in made.missing[:SHOWN]:
        say(f"missing or damaged  {key}")
    if made.missing:
        raise Refused(
            f"The backup is finished, but {plural(len(made.missing), 'file')} could not be had. "
            "Run: flask storage check"
        )


@group.command()
@folder
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="About how many originals are read byte for byte.",
)
@click.option("--all", "all_", is_flag=True, help="Read every original.")
@click.option(
    "--scratch",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where the scratch server lies for so long; /tmp unless given.",
)
def verify(folder: Path, sample: int, scratch: Path | None, *, all_: bool) -> None:
    """Restore a backup, the newest of a folder, on a scratch server and check that it is whole."""
    shelf, name = choose(folder)
    found = service.verify(
        settings(),
        shelf=shelf,
        name=name,
        sample=None if all_ else sample,
        scratch=scratch and scratch.absolute(),
    )
    for what, key in found.findings[:SHOWN]:
        say(f"{what}  {key}")
    if found.findings:
        raise Refused(f"{name} is not whole: {plural(len(found.findings), 'finding')}.")
    say(
        f"{name} is whole: restored, {plural(found.images, 'image')}, every file there, "
        f"{plural(found.checked, 'original')} read."
    )
    try:
        with connection() as conn:
            service.record(conn, found=found)
    except (DatabaseUnavailable, psycopg.Error) as error:  # such as before a restore
        warn(f"i2i: It could not be recorded: {first_line(error)}")


@group.command()
@folder
@click.option("--keep", type=click.IntRange(min=1), required=True, help="How many backups stay.")
def prune(folder: Path, keep: int) -> None:
    """Remove older backups, and files of pictures that only they have."""
    backups, files = service.prune(Shelf(folder.absolute()), keep=keep)
    say(f"{plural(backups, 'backup')} and {plural(files, 'file')} removed.")


@group.command()
@folder
@click.option(
    "--nothing-sent-since",
    is_flag=True,
    help="All was stopped before the backup was made, so nothing needs to be held.",
)
def restore(folder: Path, *, nothing_sent_since: bool) -> None:
    """Fill an empty database from a backup, the newest of a folder; then restore-files."""
    shelf, name = choose(folder)
    resolved = database_settings()
    with contextlib.closing(db.connect(resolved, application="i2i restore")) as conn:
        held = service.restore(
            conn,
            url=db.direct_url(resolved),
            shelf=shelf,
            name=name,
            migrate=lambda: apply_pending(resolved),
            hold=not nothing_sent_since,
        )
    say(f"Restored the database of {name}.")
    if held:
        say(
            f"{plural(held, 'picture')} had not been sent then and are held: they may have been "
            "made and charged since. Their users let them go, or cancel them, on the batch's page."
        )


@group.command("restore-files")
@folder
def restore_files(folder: Path) -> None:
    """Copy the files of pictures that the database names back into BLOB_URL."""
    shelf, _ = choose(folder)
    storage = make_storage(settings().blob_url, data_dir=settings().data_dir)
    with connection() as conn:
        copied, missing = service.restore_files(conn, storage, settings(), shelf=shelf)
    say(f"{plural(copied, 'file')} copied.")
    for key in missing[:SHOWN]:
        say(f"missing  {key}")
    if missing:
        raise Refused(
            f"{plural(len(missing), 'file')} not in the backup, such as those deleted while it "
            "was made. Run: flask storage check --repair"
        )
