"""A whole walk: a model's file that the host loads becomes a recipe, a run, a LoRA, and a picture in a queued graph.

The small models read one CLIP-L alone, as a T5 cannot be small: on the newest host FLUX, which there needs no more than
a width of its own; on 0.8.0, where FLUX is refused, SD 3.
"""

import json
import subprocess
from pathlib import Path

import pytest
import torch
from PIL import Image
from understudy.files.student_file import StudentFile

from . import checkpoints
from .environment import PACK, version
from .graphs import Graph
from .tensors import tensors
from .test_distilling import LIBRARIES
from .test_exports import COMPLAINTS

PROMPT = "a red star above a blue circle"
SIDE = 64
# How the stock loader is told of a CLIP-L alone for them.
CLIP_TYPE = {"Flux": "stable_diffusion", "SD3": "sd3"}
MISSING = {"Flux": ["t5xxl_fp16"], "SD3": ["clip_g", "t5xxl_fp16"]}


@pytest.fixture(scope="module")
def walked(host, tmp_path_factory):
    """(family, what ``train init`` said, the run, what the server logged, the LoRA, [student's, teacher's picture])."""
    family = "SD3" if version(host.checkout) < (0, 14, 0) else "Flux"
    folder, models = tmp_path_factory.mktemp("walk"), host.base / "models"
    (models / "loras").mkdir(exist_ok=True)
    checkpoint = host.models / "checkpoints" / checkpoints.CHECKPOINT
    arguments = [host.checkout, PACK, LIBRARIES, checkpoint, family, models, folder]
    script = [host.python, Path(__file__).with_name("inside_walk.py"), *arguments]
    done = subprocess.run([str(part) for part in script], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    before = len(host.log_text())
    graph = Graph()
    model = graph.add("UNETLoader", unet_name=f"small-{family}.safetensors", weight_dtype="default")
    lora_name = f"small-{family}-student.safetensors"
    lora = graph.add("LoraLoaderModelOnly", model=model[0], lora_name=lora_name, strength_model=1.0)
    clip = graph.add("CLIPLoader", clip_name="clip_l.safetensors", type=CLIP_TYPE[family])
    vae = graph.add("VAELoader", vae_name={"Flux": "ae", "SD3": "sd3_vae"}[family] + ".safetensors")
    positive, negative = (graph.add("CLIPTextEncode", clip=clip[0], text=text) for text in (PROMPT, ""))
    latent = graph.add("EmptySD3LatentImage", width=SIDE, height=SIDE, batch_size=1)
    given = {"positive": positive[0], "negative": negative[0], "latent_image": latent[0], "seed": 0, "denoise": 1.0}
    student = graph.add("UnderstudyStudentSampler", model=lora[0], preset="auto", steps=20, cfg=7.0, **given)
    plain = {"steps": 4, "cfg": 1.0, "sampler_name": "lcm", "scheduler": "simple"}
    teacher = graph.add("KSampler", model=model[0], **plain, **given)
    saved = [
        graph.add("TestSaveTensors", images=graph.add("VAEDecode", samples=samples[0], vae=vae[0])[0])
        for samples in (student, teacher)
    ]
    ran = host.run(graph)
    images = [tensors(host, ran, node)["images.0"] for node in saved]
    log = host.log_text()[before:]
    return family, json.loads(done.stdout.splitlines()[-1]), folder / "run", log, models / "loras" / lora_name, images


def test_init_says_what_it_found_and_what_is_missing(walked):
    family, said, *_ = walked
    assert f"{family} to the ComfyUI in" in said and "clip_l.safetensors" in said
    missing = [line for line in said.splitlines() if line.startswith("Missing")]
    assert [line.split()[2] for line in missing] == [f"{name}.safetensors" for name in MISSING[family]]


def test_the_lora_says_what_it_is(walked):
    family, _, _, _, lora, _ = walked
    student = StudentFile.read(lora)
    assert (student.base, student.steps, student.sampler) == (family, 4, "lcm") and len(student.sigmas) == 5


def test_no_key_is_without_a_place(walked):
    log = walked[3].casefold().splitlines()
    assert any("model weight dtype" in line for line in log)
    assert [line for line in log if any(words in line for words in COMPLAINTS)] == []


def test_the_queued_graph_draws_what_the_run_s_last_sample_shows(walked):
    _, _, run, _, _, (student, teacher) = walked
    sheet = Image.open(max((run / "samples").glob("*.png"))).convert("RGB")
    columns, top = sheet.width // SIDE, sheet.height - SIDE
    assert columns == 4  # the student at 1, 2 and 4 steps, and the teacher
    shown = sheet.crop((2 * SIDE, top, 3 * SIDE, top + SIDE))
    shown = torch.frombuffer(bytearray(shown.tobytes()), dtype=torch.uint8).view(SIDE, SIDE, 3) / 255
    assert student.std() > 0.02 and (student - teacher).abs().mean() > 0.005
    assert (student[0] - shown).abs().max() <= 2 / 255
