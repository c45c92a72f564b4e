"""``python -m edgeemo`` is ``edgeemo``."""

import sys

from edgeemo.cli.main import main

sys.exit(main())
