"""``python -m purejaxrl_a3c`` is ``purejaxrl-a3c``."""

from purejaxrl_a3c.run.cli import main

main()
