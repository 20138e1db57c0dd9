"""The door for A1111, Forge and what descends from them: one script, its hooks, nothing else."""

import importlib
import importlib.util
import sys
from functools import cached_property
from pathlib import Path

from modules import script_callbacks, scripts

ROOT = Path(__file__).resolve().parents[1]
# Not `understudy`: that may be installed beside it, and another version.
NAME = "understudy_extension"


def pack(module: str):
    """A module of this pack, which is loaded once as a package under a name of its own."""
    if NAME not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            NAME, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
        )
        sys.modules[NAME] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[NAME])
        pack("a1111.host").let_warnings_be_seen(NAME)
    return importlib.import_module(f"{NAME}.{module}")


def leave_path(*_):
    """Forge leaves every extension's folder on sys.path, or a link to it, where ours would hide other folders."""
    sys.path[:] = [place for place in sys.path if Path(place).resolve() != ROOT]


class Understudy(scripts.Script):
    last_job = ""  # in the panel, as HTML
    job = None

    def title(self):
        return "Understudy"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    @cached_property
    def panel(self):
        return pack("a1111.panel").Panel("img2img" if self.is_img2img else "txt2img", lambda: self.last_job)

    def ui(self, is_img2img):
        self.panel.build()
        self.infotext_fields = self.panel.pasted
        self.paste_field_names = [name for _, name in self.infotext_fields]  # for "Send to img2img" and "to inpaint"
        return self.panel.components

    def after_component(self, component, **_):
        self.panel.met(component)

    def process(self, p, *values):
        if not pack("a1111.job").goes_on(self.job, p):
            self.last_job = ""
            if self.job is not None:  # of a job that ended in an error, and that nobody closed
                self.job.broken_off()
            self.job = None  # and stays off where the next one cannot begin
            self.job = pack("a1111.job").begin(p, values)

    def process_batch(self, p, *values, **_):
        if self.job is not None:
            self.job.next_batch()

    def post_sample(self, p, args, *values):
        if self.job is not None:
            self.job.sampled(args)

    def postprocess_batch_list(self, p, args, *values, **_):
        if self.job is not None:
            self.job.decoded(args.images)

    def postprocess_image_after_composite(self, p, args, *values):
        if self.job is not None:
            self.job.made(args.image)

    def postprocess(self, p, processed, *values):
        if self.job is not None and p is self.job.p:
            self.job.finish(processed)
            self.last_job = pack("a1111.summary").line(self.job)
            processed.comments = "".join(f"{comment}\n" for comment in p.comments)  # the host gathered them before us
            self.job.release()
            self.job = None


def image_saved(params):
    pack("a1111.job").image_saved(params)


def cfg_denoiser(params):
    pack("a1111.counting").count(params)


def add_axes():
    pack("a1111.axes").add()


add_axes()  # a host without a page builds its scripts' lists before the callback
script_callbacks.on_before_ui(add_axes)
script_callbacks.on_before_ui(leave_path)
script_callbacks.on_app_started(leave_path)
script_callbacks.on_app_started(lambda _, app: pack("a1111.api").add_routes(app))
script_callbacks.on_ui_settings(lambda: pack("a1111.settings").add())
script_callbacks.on_image_saved(image_saved)
script_callbacks.on_cfg_denoiser(cfg_denoiser)
