"""`python -m sslfast` is the command `sslfast`."""

import sys

from sslfast.cli import main

if __name__ == "__main__":
    sys.exit(main())
