"""One file for each suite of environments; each makes an episodic `Env` from a name."""
