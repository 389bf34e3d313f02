"""The flow, one step a module: each reads tables and writes one table or one model version. Steps never import each other."""
