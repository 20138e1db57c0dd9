"""Make the calibration table that the demo ships: ``python -m understudy.distill_train.demo.make_calibration``.

The student's scores on every scene of the calibration split, one seed each, under the demo's own settings.
"""

import torch

from ...demo_family import family
from ...demo_family.scenes import scenes_of
from ...oracles import load_oracle
from ...oracles.calibration import Calibration
from ...oracles.statistics import percentiles_of
from ...pipelines.adaptive_run import described
from ...pipelines.demo import FOLDER, STUDENT, DemoModel
from ...pipelines.model import draw

BATCH = 128


def make_calibration() -> Calibration:
    """Percentiles of the embedded student's scores on the calibration split."""
    device = torch.device("cpu")
    student = DemoModel(family.load("student", device), device)
    oracle = load_oracle(FOLDER / "oracle.safetensors", "demo")
    prompts = [str(scene) for scene in scenes_of("calibration")]
    scores = []
    for start in range(0, len(prompts), BATCH):
        part = prompts[start : start + BATCH]
        images, _ = draw(student, part, range(start, start + len(part)), (64, 64), STUDENT, lambda step, steps: None)
        scores += oracle(images, part).tolist()
    return Calibration(
        "demo", {}, described(STUDENT), oracle.fingerprint, "calibration split", percentiles_of(scores), len(scores)
    )


if __name__ == "__main__":
    make_calibration().save(FOLDER / "calibration.json")
