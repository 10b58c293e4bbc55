"""One file for each suite of environments. Each file makes an episodic `Env` from a name."""
