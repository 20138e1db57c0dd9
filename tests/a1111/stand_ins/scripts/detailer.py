"""As ADetailer: it paints in a copy of each picture, and ends and begins the job for the other scripts around that."""

from copy import copy

import gradio as gr
from modules import scripts
from modules.processing import Processed


class Detailer(scripts.Script):
    def title(self):
        return "Detailer"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return [gr.Checkbox(False, label="enabled")]

    def postprocess_image(self, p, args, enabled):
        if enabled:
            if p.batch_index == 0:
                p.scripts.postprocess(copy(p), Processed(p, []))
            if p.batch_index == p.batch_size - 1:
                again = copy(p)
                p.scripts.before_process(again)
                p.scripts.process(again)
            args.image = args.image.copy()
            args.image.putpixel((0, 0), (255, 0, 255))
