"""Run by A1111's own Python: loads and scores with every oracle that it is given, and prints what came of it as JSON.

Arguments: the pack's folder, a JSON file {family: [file, encoder or null]}, and a file of the pictures (torch.save).
"""

import importlib
import importlib.util
import json
import sys
from pathlib import Path

import torch
import transformers

PROMPTS = ["a red star", "Café, naïve: 3 DOGS above 三", ""]
KNOWN = ["a red star", "a blue circle above a red square", "a green star"]  # by the demo's oracle
root, asked, pictures = sys.argv[1:]
spec = importlib.util.spec_from_file_location("pack", Path(root) / "__init__.py", submodule_search_locations=[root])
sys.modules["pack"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["pack"])
oracles = importlib.import_module("pack.oracles")
images = torch.load(pictures)
found = {}
for family, (file, encoder) in json.loads(Path(asked).read_text()).items():
    try:
        oracle = oracles.load_oracle(file, family, encoder=encoder)
        found[family] = [oracle.family, *oracle(images, KNOWN if family == "demo" else PROMPTS).tolist()]
    except ValueError as error:
        found[family] = f"{type(error).__name__}: {error}"
sys.stdout.write(json.dumps({"python": sys.version_info[:2], "transformers": transformers.__version__, "found": found}))
