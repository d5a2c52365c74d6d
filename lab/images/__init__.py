"""Container images made here, because no image registry can be reached: our own binaries and files of a Debian root."""
