"""`python -m tadscale`: what the first line of a job file calls."""

import sys

from tadscale.cli import main

if __name__ == "__main__":
    sys.exit(main())
