"""The small encoders of the tests of embedding are used here too."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "embed"))
