"""What others import by a plain name is theirs, though Forge leaves our folder on sys.path."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ..host.environment import PACK
from ..host.server import place
from . import watching

# As Forge does it: the folder goes before all else for good, the script runs as a file, then the callbacks come.
AS_FORGE = """
import importlib, json, sys, types
root, beside = sys.argv[1:]
sys.path.append(beside)
callbacks, host = [], {name: types.ModuleType("modules." + name) for name in ("script_callbacks", "scripts", "shared")}
for name in sys.stdin.readline().split():
    setattr(host["script_callbacks"], name, lambda callback: None)
host["script_callbacks"].on_before_ui = callbacks.append
host["script_callbacks"].on_app_started = callbacks.append
host["shared"].cmd_opts = None
host["scripts"].Script, host["scripts"].AlwaysVisible, host["scripts"].scripts_data = object, object(), []
sys.modules["modules"] = types.ModuleType("modules")
for name, module in host.items():
    sys.modules["modules." + name] = module
    setattr(sys.modules["modules"], name, module)

def found(name):
    for known in [known for known in sys.modules if known.partition(".")[0] == name.partition(".")[0]]:
        del sys.modules[known]
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name).__file__
    except ImportError as error:
        return str(error)

sys.path.insert(0, root)
path = root + "/scripts/understudy.py"
script = types.ModuleType("understudy.py")
script.__file__ = path
exec(compile(open(path).read(), path, "exec"), script.__dict__)
names = json.loads(sys.stdin.read())
before = {name: found(name) for name in names}
assert callbacks.count(script.leave_path) == 2  # at both events: the others that come then need the whole host
script.leave_path(None, None)
ours = script.pack("samplers").__file__
print(json.dumps([before, {name: found(name) for name in names}, sys.path, ours]))
"""


@pytest.mark.parametrize("linked", [False, True])
def test_what_others_import_is_theirs_after_forge_has_put_our_folder_first(tmp_path, tmp_path_factory, linked):
    root = PACK
    if linked:
        root = tmp_path_factory.mktemp("extensions") / "understudy-nodes"
        place(PACK, root)
    names = sorted(path.name for path in PACK.iterdir() if path.is_dir() and (path / "__init__.py").exists())
    names += sorted(path.stem for path in PACK.glob("*.py") if path.stem not in ("__init__", "install", "cli"))
    assert {"files", "nodes", "samplers", "oracles"} <= set(names)
    for name in [*names, "models"]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    (tmp_path / "models" / "blip.py").touch()
    hooks = re.findall(r"script_callbacks\.(\w+)", (PACK / "scripts" / "understudy.py").read_text())
    asked = " ".join(hooks) + "\n" + json.dumps([*names, "models.blip"])
    command = [sys.executable, "-c", AS_FORGE, str(root), str(tmp_path)]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    before, after, path, ours = json.loads(done.stdout)
    assert before["nodes"].startswith(str(root)), "this host does not leave our folder there, so nothing is shown"
    # The one name of ours that a host imports was given up: Interrogate is right even while our folder is there.
    assert before["models.blip"] == str(tmp_path / "models" / "blip.py")
    assert {name: file for name, file in after.items() if not file.startswith(str(tmp_path))} == {}
    assert str(root) not in path
    assert Path(ours).resolve().is_relative_to(PACK), "our own pack is found without it"


def test_interrogates_import_is_blips(a1111):
    a1111.needs(watching.seen(a1111)["interrogates"], "Interrogate CLIP")
    blips = a1111.checkout / "repositories" / "BLIP" / "models" / "blip.py"
    assert Path(a1111.get("/beside/interrogate")["file"]).resolve() == blips.resolve()
    assert not [place for place in watching.seen(a1111)["path"] if "understudy-nodes" in place or place == str(PACK)]
