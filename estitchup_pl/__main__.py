import sys

from estitchup_pl.cli import main

sys.exit(main())
