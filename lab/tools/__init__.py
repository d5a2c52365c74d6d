"""Every tool the lab needs, pinned and verified: `python -m lab.tools install|doctor|path`.

A tool is taken from PATH when a suitable version is there, else from its publisher's release, else made from package
registries. `recipes.py` is the table of what and how; `lab/README.md` tells the whole story.
"""
