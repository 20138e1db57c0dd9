import pytest
from understudy.templates import schemas
from understudy.templates.schemas import CORE, PACK, Input, Schema, Socket

TEXT = Input("text", "STRING", widget=True, default="", multiline=True)
CLASSES = (
    Schema(
        "Loader",
        CORE,
        "Load it",
        (Input("file", "COMBO", widget=True),),
        (Socket("MODEL", "MODEL"), Socket("CLIP", "CLIP")),
    ),
    Schema("Encode", CORE, "Encode", (TEXT, Input("clip", "CLIP")), (Socket("CONDITIONING", "CONDITIONING"),)),
    Schema(
        "Sample",
        PACK,
        "Sample it",
        (
            Input("model", "MODEL"),
            Input("positive", "CONDITIONING", optional=True),
            Input("seed", "INT", widget=True, default=0, follows="fixed"),
            Input("steps", "INT", widget=True, default=4),
            Input("shift", "FLOAT", widget=True, default=1.0, advanced=True),
        ),
        (Socket("images", "IMAGE", is_list=True),),
    ),
    Schema("Any", CORE, "Show any", (Input("source", "*"),), ()),
)


@pytest.fixture
def classes(monkeypatch):
    """Four made-up classes instead of those of ``schemas.json``."""
    table = {each.type: each for each in CLASSES}
    monkeypatch.setattr(schemas, "schemas", lambda: table)
    return table
