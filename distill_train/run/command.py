"""``understudy train``: a recipe in, a run directory out."""

from difflib import get_close_matches
from pathlib import Path

from ..config import Recipe, RecipeError, load_recipe
from .directory import Run
from .loop import train

RECIPES = Path(__file__).parents[1] / "recipes"


def find_recipe(recipe: Path, changes: tuple[str, ...] = ()) -> tuple[Recipe, str]:
    """The recipe in a TOML file, or of the name of one that ships with the pack, and its name. Raises RecipeError."""
    own = str(recipe) in shipped() and not recipe.is_file()
    if not own and not recipe.exists():
        near = get_close_matches(recipe.stem, shipped())
        raise RecipeError(
            f"there is no recipe {str(recipe)!r}"
            + (f"; did you mean {' or '.join(near)}?" if near else "")
            + f"; expected a file, or one of the pack's own: {', '.join(shipped())}"
        )
    path = RECIPES / f"{recipe}.toml" if own else recipe
    return load_recipe(path, changes), path.stem


def train_command(
    recipe: Path | None,
    out: Path | None = None,
    resume: bool = False,
    device: str = "auto",
    changes: tuple[str, ...] = (),
) -> Path:
    """Train ``recipe`` and return the exported file.

    out: the run's directory; ``runs/<recipe name>`` without it. resume: go on with the run there by its own recipe, to
    which only the ``changes`` are made; ``recipe`` then merely names the directory.
    Raises RecipeError, TrainingError or Stopped.
    """
    check_device(device)
    if resume and (recipe or out):
        directory = out or Path("runs") / recipe.stem
        return train(Run.own_recipe(directory, changes), directory, resume=True, device=device)
    loaded, name = find_recipe(required_recipe(recipe), changes)
    return train(loaded, out or Path("runs") / name, device=device)


def estimate_command(recipe: Path | None, out: Path | None, device: str, changes: tuple[str, ...] = ()) -> str:
    """What training ``recipe`` would take, in a few lines. Raises what training would."""
    from .estimate import estimate

    check_device(device)
    loaded, name = find_recipe(required_recipe(recipe), changes)
    return estimate(loaded, out or Path("runs") / name, device).summary()


def help_text(recipe: Path | None) -> str:
    """Every key of a recipe; with a recipe or a method's name, of that method alone. Raises RecipeError."""
    from ..methods import method_classes
    from .help_config import help_config

    if recipe is None or str(recipe) in method_classes():
        return help_config(str(recipe or ""))
    return help_config(find_recipe(recipe)[0].method)


def required_recipe(recipe: Path | None) -> Path:
    """The recipe that was asked for. Raises RecipeError for none."""
    if recipe is None:
        raise RecipeError(f"name a recipe, a file or one of {', '.join(shipped())}; with --resume, --out will do")
    return recipe


def shipped() -> list[str]:
    """Names of the pack's own recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def check_device(device: str) -> None:
    """Raises RecipeError for a device that does not exist."""
    if device not in ("auto", "cpu", "cuda"):
        raise RecipeError(f"device {device!r} is unknown; use auto, cpu or cuda")
