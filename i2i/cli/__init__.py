"""The commands of `flask`, one module for each noun."""

from flask import Flask


def register(app: Flask) -> None:
    """Add every command to the application."""
    # Imported here: `python -m i2i.cli.run` imports this package too and needs none of them.
    from i2i.cli import (  # noqa: PLC0415
        audit,
        backup,
        db,
        jobs,
        practice,
        sessions,
        storage,
        studio,
        tokens,
        users,
        worker,
        workflows,
    )

    db.group.add_command(studio.open_studio)
    for command in (
        audit.group,
        backup.group,
        db.group,
        db.seed,
        jobs.group,
        practice.practice_fal,
        sessions.group,
        storage.group,
        tokens.group,
        users.group,
        worker.run_worker,
        workflows.group,
    ):
        app.cli.add_command(command)
