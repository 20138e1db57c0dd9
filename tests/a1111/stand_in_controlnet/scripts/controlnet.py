"""Two scripts of the title "ControlNet" that stand in for the real ones.

Both make the network's work stronger by a unit's weight, of which a unit has no more. A1111's extension holds the
network from a job's start to its end: so does the one of the txt2img tab. Forge's built-in one puts itself in before
every sampling, by what it made ready at the job's start: so does the one of the img2img tab.
"""

import gradio as gr
from modules import scripts
from modules.processing import StableDiffusionProcessingImg2Img
from PIL import Image


class ControlNet(scripts.Script):
    def title(self):
        return "ControlNet"

    def ui(self, is_img2img):
        return [gr.State({"enabled": False})]


class Holds(ControlNet):
    network = None

    def __init__(self):
        self.maps = []

    def show(self, is_img2img):
        return False if is_img2img else scripts.AlwaysVisible

    def process(self, p, unit):
        self.let_go()
        if unit["enabled"]:
            if unit.get("fails") and isinstance(p, StableDiffusionProcessingImg2Img):
                raise Exception("this unit knows no image to image")
            self.network = p.sd_model.model.diffusion_model
            plain, strength = self.network.forward, 1 + unit["weight"]
            assert "forward" not in vars(self.network), "held twice"
            self.network.forward = lambda *args, **named: plain(*args, **named) * strength
            self.maps = [Image.new("RGB", (8, 8))]

    def postprocess(self, p, processed, unit):
        if self.network is not None:
            processed.images.extend(self.maps)
        self.maps.clear()
        self.let_go()

    def let_go(self):
        if self.network is not None:
            vars(self.network).pop("forward", None)
        self.network = None


class PutsItselfIn(ControlNet):
    strength = None

    def show(self, is_img2img):
        return scripts.AlwaysVisible if is_img2img else False

    def process(self, p, unit):
        self.strength = 1 + unit["weight"] if unit["enabled"] else None

    def process_before_every_sampling(self, p, unit, **given):
        if unit["enabled"]:
            given["noise"].mul_(self.strength)

    def postprocess(self, p, processed, unit):
        self.strength = None


del ControlNet  # no script of its own
