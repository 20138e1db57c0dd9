"""Runs in the host's own interpreter: exported ControlNets through the stock loader, against diffusers' own answers.

usage: python inside_controlnet.py COMFYUI_FOLDER PACK_FOLDER CASES

CASES holds the exports in controlnet/, for each a file of the same name in answers/ with a call and diffusers' answer,
and shapes.json: names and shapes of exports at the models' true size, without weights. Prints one JSON object: for each
check its name and None, or the traceback of its failure.
"""

import json
import logging
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace

import torch

COMFYUI, CASES = sys.argv[1], Path(sys.argv[3])
sys.argv[1:] = ["--cpu", "--disable-xformers"]
sys.path.insert(0, COMFYUI)

# E402 from here on: the host's modules are found by the path, and read the arguments, that were set above.
import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()
import comfy.controlnet  # noqa: E402
import comfy.model_base  # noqa: E402
import comfy.model_management  # noqa: E402
import comfy.supported_models  # noqa: E402
import folder_paths  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

import nodes as host_nodes  # noqa: E402

folder_paths.add_model_folder_path("controlnet", str(CASES / "controlnet"))
COMPLAINTS = ("leftover", "left over", "missing", "unexpected", "could not detect", "not contain")


class Log(logging.Handler):
    """All that the host says, at every level: that keys are unexpected, it only says at DEBUG."""

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.lines = []
        logging.getLogger().addHandler(self)
        logging.getLogger().setLevel(logging.DEBUG)

    def emit(self, record):
        self.lines.append(record.getMessage())

    def complaints(self):
        return [line for line in self.lines if any(words in line.casefold() for words in COMPLAINTS)]


@torch.inference_mode()
def answer(net, case):
    """What the ControlNet adds to the skips and the middle."""
    config = comfy.supported_models.SD15({})
    model = SimpleNamespace(model_sampling=comfy.model_base.model_sampling(config, comfy.model_base.ModelType.EPS))
    net = net.copy().set_cond_hint(case["hint"], 1.0, (0.0, 1.0))
    net.pre_run(model, model.model_sampling.percent_to_sigma)
    # Else what it casts to may lie about in half precision, as the files do.
    comfy.model_management.load_models_gpu(net.get_models())
    sigma = model.model_sampling.sigma(case["t"])
    told = {"c_crossattn": case["context"]} | ({"y": case["y"]} if "y" in case else {})
    made = net.get_control(case["scaled"] * (sigma[:, None, None, None] ** 2 + 1) ** 0.5, sigma, told, 1, {})
    return [*made["output"], *made["middle"]]


def answers_as_diffusers(name):
    def check():
        log, case = Log(), load_file(CASES / "answers" / name)
        (net,) = host_nodes.ControlNetLoader().load_controlnet(name)
        assert not log.complaints(), log.complaints()
        expected = [case[f"answer.{place}"] for place in range(sum(key.startswith("answer.") for key in case))]
        found = answer(net, case)
        assert len(found) == len(expected)
        for ours, theirs in zip(found, expected, strict=True):
            assert theirs.std() > 0.05, theirs.std()
            torch.testing.assert_close(ours.float(), theirs, rtol=0, atol=1e-3)
        other = answer(net, case | {"hint": 1 - case["hint"]})
        assert all((one - two).abs().max() > 1e-2 for one, two in zip(found, other, strict=True))

    return check


def every_key_has_a_place(shapes):
    def load(shapes):
        """One number in the place of every weight, as these are gigabytes."""
        weights = {key: torch.zeros((), dtype=torch.float16).expand(shape) for key, shape in shapes.items()}
        return comfy.controlnet.load_controlnet_state_dict(weights, model_options={"dtype": torch.float16})

    def check():
        log, net = Log(), load(shapes)
        assert net is not None and not log.complaints(), log.complaints()
        found = sum(value.numel() for value in net.control_model.state_dict().values())
        assert found == sum(torch.Size(shape).numel() for shape in shapes.values())
        del net
        last = next(key for key in shapes if key.endswith(("middle_block_out.0.bias", "controlnet_mid_block.bias")))
        load({key: shape for key, shape in shapes.items() if key != last})
        assert log.complaints()  # that they would be seen

    return check


def main():
    checks = {path.stem: answers_as_diffusers(path.name) for path in sorted((CASES / "controlnet").iterdir())}
    sizes = json.loads((CASES / "shapes.json").read_text())
    checks |= {f"{name} of true size": every_key_has_a_place(shapes) for name, shapes in sizes.items()}
    results = {}
    for name, check in checks.items():
        try:
            check()
            results[name] = None
        except Exception:  # noqa: BLE001 - told to the test, which fails by it
            results[name] = traceback.format_exc()
    sys.stdout.write("\n" + json.dumps(results) + "\n")


if __name__ == "__main__":
    main()
