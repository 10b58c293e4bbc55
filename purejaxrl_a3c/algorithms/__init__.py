"""One short file for each algorithm: its ``Config`` and how to build it."""
