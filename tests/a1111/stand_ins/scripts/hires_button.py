"""What the button under the gallery sets in a job, by a script that presses it."""

import gradio as gr
from modules import scripts
from PIL import Image


class HiresButton(scripts.Script):
    def title(self):
        return "Hires button"

    def show(self, is_img2img):
        return False if is_img2img else scripts.AlwaysVisible

    def ui(self, is_img2img):
        return [gr.Checkbox(False, label="pressed")]

    def setup(self, p, pressed):
        if pressed:
            p.txt2img_upscale, p.firstpass_image = True, Image.new("RGB", (p.width, p.height), "gray")
