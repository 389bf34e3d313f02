#!/usr/bin/env bash
# A model that one user saves and another one opens, as an image's or a pod's user does.
#
# One would expect save_file, and transformers' save_pretrained above it, to make a file as open() does: with the modes
# that the umask leaves, 0644 by default, as config.json and tokenizer.json beside it get, and as safetensors 0.4 did.
# safetensors 0.8 makes it 0600, whatever the umask says. The other user can list the folder and read all of it but the
# weights.
#
# Exits with 1 if that has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6
cd "$folder"
umask 022
show() {
  "$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version
from pathlib import Path

import numpy
from safetensors.numpy import save_file

save_file({"weight": numpy.zeros(2)}, "model.safetensors")
Path("config.json").write_text("{}")
modes = {name: oct(Path(name).stat().st_mode & 0o777) for name in ("config.json", "model.safetensors")}
print("safetensors", version("safetensors"), modes)
Path("model.safetensors").unlink()
raise SystemExit(modes != {"config.json": "0o644", "model.safetensors": "0o600"})
PY
}
show
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check safetensors==0.4.5
if show; then echo "0.4.5 did so too"; exit 1; fi
echo "as described: the weights are their owner's alone"
