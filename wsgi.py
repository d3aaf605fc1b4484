"""What gunicorn serves and the `flask` command finds."""

import os

from i2i.app import create_app
from i2i.config import Settings
from i2i.errors import I2IError

try:
    app = create_app(Settings.from_env(os.environ))
except I2IError as error:
    raise SystemExit(f"i2i: {error}") from None
