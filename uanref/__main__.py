"""``python -m uanref`` is the command ``uanref``."""

import sys

from uanref.cli import main

sys.exit(main())
