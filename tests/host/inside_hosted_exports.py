"""Runs in the host's own interpreter: students of small models as exported files, in the host's loaders and in ours.

usage, output: as inside_distilling.py.
"""

import json
import sys
from types import SimpleNamespace

import inside_distilling as small
import torch
from checks import run_checks
from inside_distilling import FOLDER, HOST, OLD, SIDE, SMALL, digest, eight_bits, file_of, method_of, on_each
from safetensors.torch import load_file, save_file

# isort: split
# The imports above have made the host and the pack importable.
import comfy.model_management
import comfy.sd
import folder_paths
from comfy_execution.graph import DynamicPrompt
from understudy.distill_train.exports.export import export
from understudy.distill_train.host import Loaded
from understudy.distill_train.run.processes import start_process
from understudy.distill_train.run.training import Training
from understudy.distill_train.students.lora import ADAPTER
from understudy.distill_train.teachers.comfy import HostNetwork
from understudy.files import CheckpointError
from understudy.files.student_file import StudentFile
from understudy.nodes.student import UnderstudyStudentSampler

# Stands in for the running server, which shows what nodes say.
TOLD = []
instance = SimpleNamespace(send_progress_text=lambda text, node_id: TOLD.append(text))
sys.modules["server"] = SimpleNamespace(PromptServer=SimpleNamespace(instance=instance))
FLOWS = [name for name in SMALL if name != "SD15"]
LORAS = FOLDER / "loras"
LORAS.mkdir()
folder_paths.add_model_folder_path("loras", str(LORAS))
folder_paths.add_model_folder_path("diffusion_models", str(FOLDER))


def taught(made):
    """With a LoRA that moves the network's x0 well."""
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in made.student.parameters:
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=draw))
    return made


def run_of(made, name):
    """The folder of a run that ended in what the method's network is now."""
    run = FOLDER / f"run-{name}"
    (run / "exports").mkdir(parents=True)
    made.export(made.network, run / "exports" / "student.safetensors")
    (run / "recipe.json").write_text(json.dumps(made.recipe.model_dump(mode="json")))
    return run


def exported(made, name, **options):
    return export(run_of(made, name), out=LORAS / f"{name}.safetensors", **options)


def loaded(file, lora, bypass=False, dtype=torch.float32):
    """The network of a file with a LoRA, as the stock loaders have it."""
    model = HOST.load_model(file, dtype).patcher
    load = comfy.sd.load_bypass_lora_for_models if bypass else comfy.sd.load_lora_for_models
    patched, _ = load(model, None, load_file(lora), 1.0, 0.0)
    return patched


def network_of(patched):
    comfy.model_management.load_models_gpu([patched], force_full_load=True)
    return HostNetwork(patched.model.diffusion_model, Loaded(HOST, patched))


@torch.no_grad()
def x0_of(made, network):
    batch = made.source.batch(0, range(2))
    times = made.process.times(torch.tensor([0.4, 0.9]))
    noise = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(4))
    z = made.process.level(times, noise.ndim).noisy(batch.latents, noise)
    return made.denoise(network, z, times, made.conditioning(batch))[0]


def compared(made, patched):
    """(how far the loaded model's x0 is from the training network's, how far its LoRA moves it), of its range."""
    trained = x0_of(made, made.network)
    with made.student.teaching() as teacher:
        base = x0_of(made, teacher)
    return [apart_from(trained, other) for other in (x0_of(made, network_of(patched)), base)]


def apart_from(ours, theirs):
    """The largest difference, of our own range."""
    return ((ours - theirs).abs().max() / (ours.max() - ours.min())).item()


def check_the_stock_loader_gives_the_training_network_s_x0():
    def check(name):
        made = taught(method_of(name))
        apart, moved = compared(made, loaded(file_of(name), exported(made, f"same-{name}").path))
        sys.stderr.write(f"{name}: {apart:.1e} apart, moved by {moved:.2f}\n")
        # Of a network that predicts eps, x0 has its rounding many times over where there is little signal.
        assert moved >= 0.01 and apart <= (1e-5 if name in FLOWS else 1e-4), (apart, moved)

    on_each(check)


def check_what_distribution_matching_trains_is_exported_without_its_fake_score():
    def check(name):
        made = method_of(name, "dmd", {"lr": 2e-2, "checkpointing": True}, student_steps=2, cfg=2.0, fake_updates=2)
        base, training = made.teacher.unet.diffusion_model, Training(made, start_process("cpu"))
        before, begun = digest(base), [p.detach().clone() for p in made.student.parameters]
        for _ in range(3):
            figures = training.advance()
        assert all(loss.isfinite() and norm > 0 for loss, norm in figures)
        assert not any(torch.equal(a, b) for a, b in zip(begun, made.student.parameters, strict=True))
        assert digest(base) == before
        done = exported(made, f"matched-{name}")
        layers = {key.rpartition(".lora_")[0] for key in load_file(done.path) if ".lora_A" in key}
        assert layers == made.network.factors(ADAPTER).keys()
        apart, moved = compared(made, loaded(file_of(name), done.path))
        sys.stderr.write(f"{name} dmd: {apart:.1e} apart, moved by {moved:.2f}\n")
        assert moved >= 1e-3 and apart <= (1e-5 if name in FLOWS else 1e-4), (apart, moved)

    on_each(check)


def check_in_16_bits_the_merged_weights_round():
    def check(name):
        made = taught(method_of(name, dtype=torch.bfloat16))
        apart, moved = compared(made, loaded(file_of(name), exported(made, f"half-{name}").path, dtype=torch.bfloat16))
        sys.stderr.write(f"{name} in bfloat16: {apart:.1e} apart, moved by {moved:.2f}\n")
        assert moved >= 0.01 and 1e-5 < apart < 0.2 * moved, (apart, moved)

    on_each(check, FLOWS)


def check_into_8_bits_a_merge_rounds_and_the_bypass_loader_does_not():
    if OLD:
        return

    def check(form):
        file, _ = eight_bits("Krea2", form)
        with small.no_room():
            made = taught(method_of("Krea2", file=file, dtype=torch.bfloat16))
            done = exported(made, f"eight-{form}")
            assert "Load LoRA (Bypass) works beside them" in done.summary()
            merged, moved = compared(made, loaded(file, done.path))
            beside, _ = compared(made, loaded(file, done.path, bypass=True))
        sys.stderr.write(f"{form}: merged {merged:.1e}, beside {beside:.1e} apart, moved by {moved:.2f}\n")
        assert moved >= 0.01 and beside < 0.2 * merged < 0.1 * moved, (merged, beside, moved)

    on_each(check, small.IN_8_BITS)


def check_the_file_says_how_it_is_sampled_and_what_loads_it():
    def check(name):
        made = taught(method_of(name, "lcm", intervals=10))
        done = exported(made, f"said-{name}")
        said = StudentFile.read(done.path)
        assert said.base == name and said.prediction == "flow" and said.preset is None
        assert len(said.sigmas) == said.steps + 1 and said.sigmas[0] == 1 and said.sigmas[-1] == 0
        assert (said.flux_guidance == 3.5) == (name == "Flux")
        summary = done.summary()
        assert "models/loras; Load LoRA loads it" in summary and "at the noise levels 1, " in summary, summary
        assert ("FluxGuidance" in summary) == (name == "Flux") and "8 bits" not in summary
        keys = load_file(done.path).keys()
        assert all(key.startswith("diffusion_model.") for key in keys)
        assert {key.rpartition(".lora_")[2] for key in keys if ".lora_" in key} == {"A.weight", "B.weight"}

    on_each(check, FLOWS)


def check_a_lora_that_the_loader_would_take_in_part_is_refused():
    made = taught(method_of("SD3"))
    run = run_of(made, "spoilt")
    file = run / "exports" / "student.safetensors"
    whole, metadata = load_file(file), StudentFile.read(file).metadata()
    first = next(key for key in whole if key.endswith("lora_A.weight"))
    for lora, word in (
        ({key.replace("joint_blocks.0", "joint_blocks.7"): value for key, value in whole.items()}, "joint_blocks.7"),
        (whole | {first: torch.zeros(4, 3)}, first.removesuffix(".lora_A.weight")),
        (whole | {"diffusion_model.nothing.alpha": torch.tensor(1.0)}, "diffusion_model.nothing.alpha"),
    ):
        save_file(lora, file, metadata)
        try:
            export(run, out=LORAS / "spoilt.safetensors")
            raise AssertionError(f"{word} was taken")
        except CheckpointError as error:
            assert "Load LoRA finds no place" in str(error) and word in str(error), error
        assert not (LORAS / "spoilt.safetensors").exists()


def sampled(model, lora, made, count, side=None):
    """What Student sampler makes with preset auto of a graph that loads the model and the LoRA."""
    prompt = {
        "1": {"class_type": "X", "inputs": {"model": ["2", 0]}},
        "2": {
            "class_type": "LoraLoaderModelOnly",
            "inputs": {"model": ["3", 0], "lora_name": lora, "strength_model": 1},
        },
        "3": {"class_type": "UNETLoader", "inputs": {"unet_name": "SD3.safetensors"}},
    }
    UnderstudyStudentSampler.hidden = SimpleNamespace(unique_id="1", dynprompt=DynamicPrompt(prompt))
    row = made.teacher._row("a")
    options = {"pooled_output": row["pooled_output"]} if "pooled_output" in row else {}
    if made.teacher.takes_guidance:
        options["guidance"] = 3.5
    text = [[row["cross_attn"], options]]
    latent = {"samples": torch.zeros(count, *shape_of(made, side))}
    given = (model, text, text, latent, made.recipe.samples.seed, "auto", 20, 7.0, 1.0)
    return UnderstudyStudentSampler.execute(*given).result[0]["samples"]


def check_student_sampler_draws_what_the_preview_shows():
    def check(name):
        methods = {
            "lcm": {"intervals": 10},
            "pd": {"teacher_steps": 4, "student_steps": 2},
            "dmd": {"student_steps": 4},
        }
        for method, settings in methods.items():
            made = method_of(name, method, {"steps": 8}, **settings)
            # Where a network predicts eps, how the merge of a LoRA rounds grows over the steps to 0.3 % of the range.
            made = taught(made) if name in FLOWS else made
            done = exported(made, f"{method}-{name}")
            steps, count = done.student.steps, 2
            model = loaded(file_of(name), done.path)
            TOLD.clear()
            theirs = sampled(model, done.path.name, made, count)
            assert f"{steps} steps at cfg 1" in TOLD[0], TOLD
            apart = apart_from(preview_of(made, steps, count), theirs)
            sys.stderr.write(f"{name} {method}: {apart:.1e} apart\n")
            assert apart < (1e-4 if name in FLOWS else 1e-6), (method, apart)

    on_each(check)


def check_a_shift_by_size_is_that_of_the_picture_in_student_sampler_too():
    if OLD:
        return
    made = taught(method_of("Flux", "lcm", teacher={"shift": "by size"}, intervals=10))
    done = exported(made, "sized")
    model, found = loaded(file_of("Flux"), done.path), []
    for side in (64, 256, 512):
        theirs = sampled(model, done.path.name, made, 1, side)
        apart = apart_from(preview_of(made, done.student.steps, 1, side), theirs)
        sys.stderr.write(f"by size, {side} pixels: {apart:.1e} apart\n")
        assert apart < 1e-4, (side, apart)
        found.append(made.levels(4, [side // 8] * 2)[1].item())
    assert found[0] < found[1] - 1e-3 < found[2] - 0.01  # samples.size of the run is the first


def shape_of(made, side=None):
    """Of the latents of a small picture."""
    return made.teacher.latent_shape(*[side or SIDE.get(made.teacher.kind, 8) * made.teacher.factor] * 2)


@torch.no_grad()
def preview_of(made, steps, count, side=None):
    """The latents of the preview's picture, as an autoencoder has them."""
    from understudy.samplers.noise import initial_noise

    noise = initial_noise(made.recipe.samples.seed, range(count), shape_of(made, side))
    latents = made.sample(made.network, noise, made.teacher.embed(["a"] * count), steps)
    return made.teacher._outline.process_latent_out(latents)


if __name__ == "__main__":
    run_checks()
