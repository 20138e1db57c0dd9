"""What a job with the extension costs in a real A1111, against the same work done by hand through its API.

    python bench/a1111.py               # ten pairs of each, over an hour on two cores; writes bench/results/a1111.json
    python bench/a1111.py --resume      # goes on with that file: pairs that it has are not measured again
    python bench/a1111.py --pairs 1 --side 64 --out elsewhere.json      # a look

Eight pictures of an SD 1.5-layout checkpoint (shallow UNet, text encoder and VAE at their normal size), of which the
worst two are redone and scored again, all of them saved. By hand: txt2img of eight, their scores over the extension's
own route, img2img of two with the teacher's sampler, steps and CFG, and their scores. Another checkpoint as teacher is
loaded by hand by a change of the host's option before img2img, and the student's after it. The two ways take turns in
one server, each time with a seed that was not used before; a pair's order is the other way round than the one's before.
"""

import json
import os
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from understudy.a1111.choices import SAME, WORST, Choices  # noqa: E402

from bench.turns import begun, in_turns, measure, options_of, shown  # noqa: E402
from tests.a1111 import environment  # noqa: E402
from tests.a1111.conftest import STUDENT as STUDENT_FILE  # noqa: E402
from tests.a1111.conftest import TEACHER as TEACHER_FILE  # noqa: E402
from tests.a1111.conftest import save_checkpoints  # noqa: E402
from tests.a1111.server import WebUI  # noqa: E402
from tests.host import checkpoints  # noqa: E402
from tests.host.server import place  # noqa: E402

PICTURES, REDONE = 8, 2
STUDENT = {"steps": 4, "cfg_scale": 1.0, "sampler_name": "LCM", "scheduler": "SGM Uniform"}
TEACHER = {"steps": 12, "cfg_scale": 7.0, "sampler_name": "DPM++ 2M", "scheduler": "Karras"}
WAY_BACK = 0.6  # as noise; by hand any strength costs the same, since all steps are run
PROMPT = "a photograph of a lighthouse on a cliff at dusk"
WAYS = ("extension", "by hand")
SETTINGS = {"pictures": PICTURES, "redone": REDONE, "student": STUDENT, "teacher": TEACHER}


class Comparison(NamedTuple):
    """Eight pictures in batches of ``batch``, redone by ``teacher``."""

    batch: int
    teacher: str

    def __str__(self):
        size = "in one batch" if self.batch == PICTURES else f"in batches of {self.batch}"
        return f"{size}, {'the same checkpoint' if self.teacher == SAME else 'another checkpoint'}"


COMPARISONS = (Comparison(8, SAME), Comparison(8, TEACHER_FILE), Comparison(1, SAME), Comparison(1, TEACHER_FILE))


class Bench:
    def __init__(self, host, side, folder):
        self.side, self.webui = side, WebUI(host.folder, host.python, Path(folder), arguments=host.arguments)
        self.seed = int.from_bytes(os.urandom(3), "big")
        models = self.webui.base / "models"
        save_checkpoints(host, models)
        place(checkpoints.models() / "oracles" / checkpoints.CLIP, models / "oracles" / checkpoints.CLIP)
        self.webui.start("--nowebui")

    def student(self, comparison) -> dict:
        self.seed += PICTURES
        sizes = {"batch_size": comparison.batch, "n_iter": PICTURES // comparison.batch}
        pixels = {"width": self.side, "height": self.side}
        return {"prompt": PROMPT, "seed": self.seed, "save_images": True, **pixels, **sizes, **STUDENT}

    def extension(self, comparison):
        choices = Choices(
            enabled=True,
            oracle=checkpoints.CLIP,
            rule=WORST,
            share=100 * REDONE / PICTURES,
            teacher=comparison.teacher,
            steps=TEACHER["steps"],
            cfg=TEACHER["cfg_scale"],
            sampler=TEACHER["sampler_name"],
            scheduler=TEACHER["scheduler"],
            noise=WAY_BACK,
        )
        asked = {"understudy": {"args": list(astuple(choices))}}
        answer = self.webui.post("/sdapi/v1/txt2img", {**self.student(comparison), "alwayson_scripts": asked})
        said = "\n".join(json.loads(answer["info"])["infotexts"])
        if said.count("Understudy score after: ") != REDONE:
            raise SystemExit(f"the extension did not redo {REDONE} pictures:\n{said}")

    def by_hand(self, comparison):
        asked = self.student(comparison)
        answer = self.webui.post("/sdapi/v1/txt2img", asked)
        made = answer["images"][json.loads(answer["info"])["index_of_first_image"] :]
        scores = self.scores(made)
        worst = sorted(range(PICTURES), key=scores.__getitem__)[:REDONE]
        again = {"init_images": [made[place] for place in worst], "batch_size": REDONE, "n_iter": 1, **TEACHER}
        again |= {"denoising_strength": 0.7, "override_settings": {"img2img_fix_steps": True}}
        with self.loaded(comparison.teacher):
            answer = self.webui.post("/sdapi/v1/img2img", {**asked, **again})
        self.scores(answer["images"][-REDONE:])

    def scores(self, images) -> list[float]:
        body = {"images": images, "prompts": PROMPT, "oracle": checkpoints.CLIP}
        return self.webui.post("/understudy/v1/score", body)["scores"]

    @contextmanager
    def loaded(self, teacher):
        """The teacher's checkpoint in place of the student's."""
        if teacher != SAME:
            self.webui.post("/sdapi/v1/options", {"sd_model_checkpoint": teacher})
        yield
        if teacher != SAME:
            self.webui.post("/sdapi/v1/options", {"sd_model_checkpoint": STUDENT_FILE})

    def seconds(self, way, comparison) -> float:
        started = time.perf_counter()
        (self.extension if way == "extension" else self.by_hand)(comparison)
        return time.perf_counter() - started

    def row(self, comparison, found, pairs, progress) -> dict:
        """What both ways took. found: the seconds that are known."""
        turns = in_turns(
            found,
            pairs,
            lambda way: self.seconds(way, comparison),
            lambda text: progress(f"{comparison}, {text}"),
        )
        return turns._asdict()


def main():
    options, console = options_of(__doc__, "a1111.json"), Console()
    report = begun(f"A1111 {environment.REVISION[:8]}", options, SETTINGS)
    with tempfile.TemporaryDirectory() as folder, console.status("starting") as status:
        host = environment.host(environment.A1111)._replace(layout=checkpoints.SHALLOW)
        bench = Bench(host, options.side, folder)
        try:
            row_of = partial(bench.row, pairs=options.pairs, progress=status.update)
            measure(COMPARISONS, report, options, WAYS, row_of)
        finally:
            bench.webui.stop()
    console.print(table(report["rows"], f"{report['host']}, {PICTURES} pictures at {options.side} x {options.side}"))


def table(rows, title) -> Table:
    shown_as = Table("pictures", "by hand s", "extension s", "ratio (95 %)", title=title)
    for row in rows:
        shown_as.add_row(str(Comparison(row["batch"], row["teacher"])), *shown(row, ("by hand", "extension")))
    return shown_as


if __name__ == "__main__":
    main()
