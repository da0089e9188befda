"""``python -m servable`` is the command ``servable``."""

import sys

from servable.cli import main

sys.exit(main())
