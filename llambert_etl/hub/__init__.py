"""The hub: its commits and their files, and its models' mirror in the lake. The only importer of huggingface_hub."""
