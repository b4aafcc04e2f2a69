"""``python -m mlffjax``: the same as the ``mlffjax`` command."""

import sys

from mlffjax.cli import main

sys.exit(main())
