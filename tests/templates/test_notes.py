"""What a note says of files."""

from understudy.templates.graph import Model
from understudy.templates.notes import files

HOST = "https://example.org"


def test_every_file_has_its_link_its_size_and_its_place():
    models = [
        Model("a.safetensors", f"{HOST}/x/a.safetensors", "checkpoints", "6.9 GB"),
        Model("b.safetensors", f"{HOST}/b.safetensors", "loras"),
        Model("c.safetensors", f"{HOST}/c.safetensors", "checkpoints", "2 GB"),
    ]
    said = files(models)
    assert "**checkpoints**\n\n- [a.safetensors](https://example.org/x/a.safetensors) (6.9 GB)\n- [c" in said
    assert "**loras**\n\n- [b.safetensors](https://example.org/b.safetensors)\n\n" in said
    tree = """ComfyUI/
└── models/
    ├── checkpoints/
    │   ├── a.safetensors
    │   └── c.safetensors
    └── loras/
        └── b.safetensors
"""
    assert f"```\n{tree}```" in said
