"""What gunicorn serves and the `flask` command finds."""

import os

from i2i.app import create_app
from i2i.config import Settings

app = create_app(Settings.from_env(os.environ))
