"""The champion: who it was when, how a candidate compares with it, and whether it is good enough to label."""
