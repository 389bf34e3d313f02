"""Ends the build of an image in which another torch was installed than the one that was asked for."""

import sys

import torch

asked, found = sys.argv[1], "cpu" if torch.version.cuda is None else "cuda"
if asked != found:
    sys.exit(
        f"TORCH={asked} was asked for, and pip found torch {torch.__version__}, the build for {found}: where the CPU "
        "build is wanted, PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS must lead to it, and otherwise must not"
    )
