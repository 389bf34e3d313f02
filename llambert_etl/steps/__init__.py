"""The flow: each step reads tables and writes one table or one model version. Steps never import each other."""
