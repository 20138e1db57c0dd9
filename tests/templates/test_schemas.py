"""What is kept of a host's ``/object_info``."""

import json

from understudy.templates import schemas
from understudy.templates.schemas import CORE, PACK, Input, Schema, Socket, reduced, written

INFO = {
    "name": "Sample",
    "display_name": "Sample it",
    "python_module": "custom_nodes.understudy-nodes",
    "input": {
        "required": {
            "model": ["MODEL", {"tooltip": "a model"}],
            "seed": ["INT", {"default": 0, "min": 0, "control_after_generate": True}],
            "sampler": [["euler", "lcm"], {}],
            "mode": ["COMBO", {"default": "fixed", "options": ["fixed", "budget"]}],
            "text": ["STRING", {"multiline": True}],
        },
        "optional": {
            "shift": ["FLOAT", {"default": 1.0, "advanced": True}],
            "scores": ["FLOAT", {"forceInput": True}],
        },
    },
    "output": ["IMAGE"],
    "output_name": ["images"],
    "output_is_list": [True],
}
SCHEMA = Schema(
    "Sample",
    PACK,
    "Sample it",
    (
        Input("model", "MODEL"),
        Input("seed", "INT", widget=True, default=0, follows="fixed"),
        Input("sampler", "COMBO", widget=True),
        Input("mode", "COMBO", widget=True, default="fixed"),
        Input("text", "STRING", widget=True, default="", multiline=True),
        Input("shift", "FLOAT", optional=True, widget=True, default=1.0, advanced=True),
        Input("scores", "FLOAT", optional=True),
    ),
    (Socket("images", "IMAGE", is_list=True),),
)


def test_a_class_is_reduced_to_its_sockets_and_widgets():
    assert reduced(INFO) == SCHEMA
    assert reduced({**INFO, "python_module": "nodes"}).pack == CORE
    assert reduced({**INFO, "python_module": "comfy_extras.nodes_lt"}).pack == CORE


def test_a_picture_s_widget_is_followed_by_its_upload_button():
    picture = {"required": {"image": [["a.png"], {"image_upload": True}]}}
    (socket,) = reduced({**INFO, "input": picture}).inputs
    assert (socket.widget, socket.default, socket.follows) == (True, None, "image")


def test_what_is_written_reads_back(tmp_path, monkeypatch):
    path = tmp_path / "schemas.json"
    path.write_text(written([SCHEMA]), encoding="utf-8")
    monkeypatch.setattr(schemas, "FILE", path)
    assert schemas.schemas.__wrapped__() == {"Sample": SCHEMA}
    assert json.loads(path.read_text(encoding="utf-8"))["Sample"]["inputs"][0] == {"name": "model", "type": "MODEL"}
