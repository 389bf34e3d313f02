"""Studies: the same task trained or asked in many ways, side by side, with seeds and intervals."""
