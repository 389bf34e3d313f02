"""Label runs: their plan, the files of their model, and whose turn it is."""
