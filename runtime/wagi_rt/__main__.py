"""`python -m wagi_rt` is `wagi-rt`."""

import sys

from wagi_rt.cli import main

sys.exit(main())
