"""The pack through ComfyUI Manager's own package, at the version that the newest host names, from a git address."""

import os
import shutil
import subprocess

import pytest

from . import checkpoints, environment
from .environment import PACK, run
from .server import Host

ADDRESS = "https://github.com/understudy-nodes/understudy-nodes"
FOLDER = "understudy-nodes"


@pytest.fixture(scope="module")
def manager(tmp_path_factory):
    """A ComfyUI of its own, the pack's repository at its address, and the Manager's command."""
    try:
        checkout = environment.checkout(environment.revisions()[-1])
        interpreter = environment.python([environment.checkout(revision) for revision in environment.revisions()])
        yield Manager(tmp_path_factory.mktemp("manager"), checkout, interpreter)
    except environment.HostUnavailable as e:
        environment.unavailable(f"ComfyUI cannot be had here: {e}")


class Manager:
    def __init__(self, folder, checkout, interpreter):
        self.comfyui, self.repository, self.interpreter = folder / "ComfyUI", folder / "repository", interpreter
        shutil.copytree(checkout, self.comfyui, symlinks=True)
        self.packs = self.comfyui / "custom_nodes"
        run("git", "clone", "--quiet", PACK, self.repository)
        venv = folder / "venv"
        run(interpreter, "-m", "venv", venv)
        self.python = venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        where = "import sysconfig; print(sysconfig.get_path('purelib'))"
        mine, hosts = (
            subprocess.run([str(each), "-c", where], capture_output=True, text=True, check=True).stdout.strip()
            for each in (self.python, interpreter)
        )
        with open(os.path.join(mine, "host.pth"), "w", encoding="utf-8") as file:
            file.write(f"import site; site.addsitedir({hosts!r})\n")
        run(self.python, "-m", "pip", "install", "--quiet", "-r", self.comfyui / "manager_requirements.txt")
        # Else the Manager would bring this folder's front end up to date, which is no matter of the pack.
        (self.comfyui / "requirements.txt").write_text("")

    def __call__(self, *command):
        """What the Manager says; it knows no network but the pack's address."""
        settings = {
            "COMFYUI_PATH": str(self.comfyui),
            "PIP_NO_INDEX": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{self.repository}.insteadOf",
            "GIT_CONFIG_VALUE_0": ADDRESS,
        }
        done = subprocess.run(
            [str(self.python), "-m", "cm_cli.__main__", *command, "--mode", "local", "--channel", "default"],
            cwd=self.comfyui,
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def nodes(self):
        """The ids of our nodes in a server that starts now."""
        parts = {"test_nodes": False, "with_pack": False}
        host = Host(self.comfyui, self.interpreter, self.comfyui, checkpoints.models(), **parts)
        try:
            return {name for name in host.start().object_info() if name.startswith("Understudy")}
        finally:
            host.stop()


def test_it_is_installed_updated_disabled_and_enabled(manager):
    assert "[INSTALLED]" in manager("install", ADDRESS)
    assert (manager.packs / FOLDER / "__init__.py").is_file()
    assert (manager.comfyui / "models" / "oracles").is_dir()  # by install.py, which the Manager ran
    installed = manager.nodes()
    assert "UnderstudyTeacher" in installed

    (manager.repository / "news.txt").write_text("of a later version\n")
    run("git", "-C", manager.repository, "add", "news.txt")
    author = ("-c", "user.name=A tester", "-c", "user.email=tester@example.org")
    run("git", "-C", manager.repository, *author, "commit", "--quiet", "-m", "Later")
    manager("update", FOLDER)
    assert (manager.packs / FOLDER / "news.txt").is_file()

    manager("disable", FOLDER)
    assert not (manager.packs / FOLDER).exists()
    manager("enable", FOLDER)
    assert (manager.packs / FOLDER / "news.txt").is_file() and manager.nodes() == installed
