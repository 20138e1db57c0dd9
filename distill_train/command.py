"""``understudy train``: a recipe in, a run directory out."""

from pathlib import Path

from .config import RecipeError, load_recipe
from .loop import train

RECIPES = Path(__file__).parent / "recipes"


def train_command(recipe: Path, out: Path | None = None, resume: bool = False, device: str = "auto") -> Path:
    """Train ``recipe`` (a TOML file, or the name of one that ships with the pack) and return the exported file.

    out: the run's directory; ``runs/<recipe name>`` without it. Raises RecipeError.
    """
    shipped = RECIPES / f"{recipe.stem}.toml"
    path = recipe if recipe.exists() or not shipped.exists() else shipped
    if device not in ("auto", "cpu", "cuda"):
        raise RecipeError(f"device {device!r} is unknown; use auto, cpu or cuda")
    return train(load_recipe(path), out or Path("runs") / path.stem, resume=resume, device=device)
