"""`flask practice-fal`: fal's protocol on this machine, nothing charged."""

import click
from flask.cli import with_appcontext

from i2i.cli.console import Command, say, settings
from i2i.practice import serve


@click.command("practice-fal", cls=Command, audited="never")
@click.option("--port", type=click.IntRange(1, 65535), default=8001, show_default=True)
@click.option(
    "--seconds",
    type=click.FloatRange(0, 3600),
    default=3.0,
    show_default=True,
    help="How long a request takes.",
)
@with_appcontext
def practice_fal(port: int, seconds: float) -> None:
    """Run the practice server until SIGTERM: real edits, stamped, nothing charged."""
    origin = f"http://127.0.0.1:{port}"

    def ready() -> None:
        say(f"The practice server listens on {origin}. To use it, set FAL_QUEUE_URL,")
        say(f"FAL_REST_URL, FAL_PLATFORM_URL and FAL_MEDIA_HOSTS to {origin}")

    serve(settings().data_dir / "practice", port=port, seconds=seconds, ready=ready)
