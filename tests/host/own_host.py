"""A ComfyUI of a user's own beside the one that tests share, which is nobody's to write to."""

import json
from pathlib import Path


def own_host(folder, shared, models):
    """The folder, made one with the shared one's code and an ``extra_model_paths.yaml`` that names a models folder."""
    folder.mkdir(exist_ok=True)
    for entry in Path(shared).iterdir():
        (folder / entry.name).symlink_to(entry)
    kinds = "".join(f"  {kind}: {kind}\n" for kind in ("text_encoders", "vae"))
    (folder / "extra_model_paths.yaml").write_text(f"mine:\n  base_path: {json.dumps(str(models))}\n{kinds}")
    return folder
