"""One restore, for people and the drill: look first, bring back, compare."""
