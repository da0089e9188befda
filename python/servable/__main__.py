"""``python -m servable`` runs the command ``servable``."""

import sys

from servable.cli import main

sys.exit(main())
