"""`python3 -m components.machines VERB`: what states of before `actions/` have their resources run on delete."""

from __future__ import annotations

import sys

from actions.__main__ import main

if __name__ == "__main__":
    sys.exit(main([f"machines.{sys.argv[1]}"]))
