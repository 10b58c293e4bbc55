"""Running an algorithm: the pure run, its evaluation, and everything that prints, writes or reads a clock."""
