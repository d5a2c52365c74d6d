"""`python3 -m components.machines.keys make`: what states of before `actions/` have the key pair made by, whatever becomes of it."""

from __future__ import annotations

import sys

from actions.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["machines.make-secrets"]))
