"""``understudy train init``: a recipe for a model of the user's own ComfyUI, from what its file says of itself."""

from pathlib import Path

import torch

from ...files import write_whole
from ..config import RecipeError, load_recipe
from ..host import open_host
from .plan import plan_of
from .recipe import recipe_text
from .summary import summary
from .ways import way_of


def init(file: Path, comfyui: Path | None = None, out: Path | None = None, method: str = "lcm") -> str:
    """Write the recipe for the model in a file; returns what it is and will take, whose last line is the command.

    comfyui: its folder, as `host.host_folder` takes it. out: the recipe; named after the model, here, without it.
    method: one of ``WAYS``.
    Raises FileNotFoundError or CheckpointError for the file, RecipeError for what cannot be distilled and for another
    method, ValueError for a published student that nothing here can sample, and FileExistsError for a recipe that is
    there already.
    """
    way, out = way_of(method), out or Path(f"{file.stem}.toml")
    if out.suffix != ".toml":
        raise RecipeError(f"--out {out}: expected the name of a recipe, which ends in .toml")
    if out.exists():
        raise FileExistsError(f"{out} is there already and would be lost; name another file with --out")
    plan = plan_of(open_host(comfyui, torch.device("cpu")), file.expanduser().resolve())
    write_whole(out, recipe_text(plan, way))
    load_recipe(out)
    command = f"understudy train {out} --set data.path=PICTURES"
    return f"{summary(plan, way)}\nestimate    with activations and time: {command} --estimate\n{command}"
