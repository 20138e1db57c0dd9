"""What goes wrong around a command is one line; what is wrong in the command keeps its traceback."""

import subprocess
import sys

import pytest
import torch
from understudy import cli
from understudy.oracles import about


@pytest.fixture
def info(monkeypatch, capsys):
    """Runs `understudy oracle info x` where reading the file raises the error; (exit code, standard error)."""

    def run(error):
        def fail(_):
            raise error

        monkeypatch.setattr(about, "about", fail)
        with pytest.raises(SystemExit) as end:
            cli.main(["oracle", "info", "x"])
        return end.value.code, capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError(13, "Permission denied", "scores.csv"), "Permission denied: 'scores.csv'"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (MemoryError(), "out of memory; use a smaller --batch-size"),
        (torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate"), "(CUDA out of memory. Tried to allocate)"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory; use a smaller --batch-size"),
        (ModuleNotFoundError("", name="accelerate"), f"{sys.executable} -m pip install accelerate"),
        (ModuleNotFoundError("", name="PIL"), "PIL is not installed"),
    ],
)
def test_what_a_machine_lacks_is_one_line(info, error, told):
    code, line = info(error)
    assert code == 2 and line.startswith("error: ") and told in line and line.count("\n") == 1


@pytest.mark.parametrize("error", [RuntimeError("a bug"), ModuleNotFoundError("", name="understudy.nothing")])
def test_the_unexpected_keeps_its_traceback(info, error):
    with pytest.raises(type(error)):
        info(error)


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_a_missing_package_of_the_command_line_is_named_with_the_way_to_get_it(missing, tmp_path):
    program = f"""
import sys
class Without:
    def find_spec(name, *_):
        if name == {missing!r}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Without)
from understudy.cli import main
main(sys.argv[1:])
"""
    words = ["score", str(tmp_path), "--oracle", "x", "--out", "x.csv"]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True)
    assert done.returncode != 0 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and f"{sys.executable} -m pip install" in done.stderr
    assert missing in done.stderr
