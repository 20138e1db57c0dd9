"""The pack as users get it: the wheel, the cost of importing it, and any folder name in custom_nodes or extensions."""

import importlib
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from understudy.distill_train.config import tomllib

PACK = Path(__file__).parents[1]
HEAVY = (
    "torch",
    "numpy",
    "transformers",
    "diffusers",
    "accelerate",
    "peft",
    "scipy",
    "PIL",
    "pydantic",
    "typer",
    "rich",
)


def run_python(code, cwd, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def tracked_files():
    """The files that git has or would add, so that a build folder beside them does not count."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=PACK, capture_output=True, text=True, check=True).stdout.split("\0")
    return [name for name in names if name and (PACK / name).is_file()]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The pack under a name that is no Python identifier."""
    folder = tmp_path_factory.mktemp("custom_nodes") / "under study-nodes (1)"
    for name in tracked_files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PACK / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel_names(copy, tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (wheel,) = out.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_wheel_has_every_module_and_data_file(wheel_names):
    # scripts and localizations are where A1111 looks in a clone, and in nothing else; templates and translations are
    # what shipped files are written from.
    outside = ("tests", "bench", "docs", "build", "dist", "scripts", "localizations", "templates", "translations")
    shipped = (".py", ".safetensors", ".toml", ".json", ".jpg", ".md", ".txt", ".gz", ".yaml", ".ttf")
    expected = {
        f"understudy/{name}"
        for name in tracked_files()
        if name.endswith(shipped) and name.split("/")[0] not in outside and not name.startswith(".")
        if "/" in name or name.endswith(".py")
    } - {"understudy/install.py"}
    assert expected - wheel_names == set()


def test_wheel_has_nothing_else(wheel_names):
    assert {name.split("/")[0] for name in wheel_names if ".dist-info/" not in name} == {"understudy"}
    assert not [name for name in wheel_names if name.startswith(("understudy/tests", "understudy/bench"))]


def test_the_registry_s_archive_has_what_the_wheel_has(wheel_names):
    """And what a pack's folder needs beside it: .comfyignore keeps tests, benches and documents out."""
    command = ["git", "ls-files", "--cached", "--ignored", "--exclude-from=.comfyignore"]
    left_out = set(subprocess.run(command, cwd=PACK, capture_output=True, text=True, check=True).stdout.split("\n"))
    archive = {name for name in tracked_files() if name not in left_out}
    packaged = {name.removeprefix("understudy/") for name in wheel_names if name.startswith("understudy/")}
    beside = {"CHANGELOG.md", "LICENSE", "NOTICE", "README.md", "install.py", "pyproject.toml", "requirements.txt"}
    assert archive == packaged | beside


def test_import_is_light(tmp_path):
    code = "import sys, json, understudy; print(json.dumps(sorted(sys.modules)))"
    modules = set(json.loads(run_python(code, tmp_path)))
    assert modules & set(HEAVY) == set()


def test_pack_loads_the_way_comfyui_loads_it_under_any_folder_name(copy):
    # ComfyUI hands a path with dots replaced as the module's name and never puts the pack on sys.path.
    code = """if True:
        import importlib.util, sys
        name = sys.argv[1].replace(".", "_x_")
        spec = importlib.util.spec_from_file_location(name, sys.argv[1] + "/__init__.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        assert callable(module.comfy_entrypoint)
        import importlib
        importlib.import_module(".samplers.adaptive", name)
        importlib.import_module(".oracles.threshold", name)
        importlib.import_module(".demo_family.language", name)
        assert "understudy" not in sys.modules
        print("ok")
    """
    assert run_python(code, copy.parent, str(copy)).strip() == "ok"


def test_the_registry_s_page_has_all_that_it_shows():
    """And its pictures, which it fetches from the repository, are there in its sizes."""
    told = tomllib.loads((PACK / "pyproject.toml").read_text(encoding="utf-8"))
    assert told["project"]["name"] == "understudy-nodes", "as users have it installed"
    page, urls = told["tool"]["comfy"], told["project"]["urls"]
    assert page["PublisherId"] and page["DisplayName"] == "Understudy"
    assert re.fullmatch(r">=\d+\.\d+\.\d+", page["requires-comfyui"])
    assert urls.keys() >= {"Repository", "Documentation", "Issues"}
    assert all(url.startswith(urls["Repository"]) for url in urls.values())
    raw = urls["Repository"].replace("github.com", "raw.githubusercontent.com") + "/main/"
    icon, banner = (page[name].removeprefix(raw) for name in ("Icon", "Banner"))
    assert Image.open(PACK / icon).size == (400, 400)
    width, height = Image.open(PACK / banner).size
    assert 9 * width == 21 * height


def test_a_maintainer_publishes_in_the_registry_by_a_click():
    """And nothing else does."""
    job = (PACK / ".github" / "workflows" / "publish.yml").read_text(encoding="utf-8")
    assert re.search(r"^on:\n  workflow_dispatch:\n\n", job, re.M)
    action = r"uses: Comfy-Org/publish-node-action@\S+\n +with:\n +personal_access_token: "
    assert re.search(action + r"\$\{\{ secrets\.\w+ \}\}$", job, re.M)


def test_the_pack_ships_no_javascript():
    assert [name for name in tracked_files() if name.endswith((".js", ".mjs"))] == []


def lower_bound(requirement):
    """(name, version) of a requirement with a lower bound and no pin."""
    name, bounds = re.fullmatch(r"([\w.-]+)(?:\[.*\])?\s*(.*?)(?:;.*)?", requirement).groups()
    assert re.fullmatch(r">=[\d.]+", bounds.strip()), f"{requirement}: expected a lower bound and no pin"
    return name.lower(), tuple(map(int, bounds.strip()[2:].split(".")))


def test_pack_names_no_library_that_the_host_brings():
    named = [line.split("#")[0].strip() for line in (PACK / "requirements.txt").read_text().splitlines()]
    named += tomllib.loads((PACK / "pyproject.toml").read_text())["project"]["dependencies"]
    for requirement in filter(None, named):
        name, _ = lower_bound(requirement)
        assert name not in {"torch", "torchvision", "torchaudio", "numpy", "transformers"}


# What ComfyUI 0.8.0 asks for at least, of what training asks for too; torch as its README has it.
OLDEST_HOST = {
    "torch": (2, 4), "numpy": (1, 25, 0), "transformers": (4, 50, 3), "safetensors": (0, 4, 2), "pydantic": (2, 0),
    "kornia": (0, 7, 1),
}  # fmt: skip


def test_what_training_adds_to_the_host_s_python_changes_nothing_there():
    """As pip leaves alone what meets a lower bound."""
    extras = tomllib.loads((PACK / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = [each for each in (*extras["demo"], *extras["train"]) if not each.startswith("understudy-nodes")]
    bounds = dict(map(lower_bound, asked))
    assert OLDEST_HOST.keys() <= bounds.keys()
    assert all(bounds[name] <= version for name, version in OLDEST_HOST.items()), bounds


def test_every_module_that_needs_no_host_can_be_imported():
    """Files that move leave no import behind that only a seldom used command would find."""
    elsewhere = ("tests", "bench", "docs", "nodes", "scripts", "install", "translations", ".ci")
    for name in tracked_files():
        if name.endswith(".py") and name.partition("/")[0].removesuffix(".py") not in elsewhere:
            parts = ["understudy", *name.removesuffix(".py").split("/")]
            importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
