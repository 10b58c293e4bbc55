"""``python -m purejaxrl_a3c`` is ``purejaxrl-a3c``."""

from purejaxrl_a3c.cli import main

main()
