"""Runs in the host's own interpreter: students and teachers on small models of the host's own networks, beside stock
nodes that do the same work.

usage and output: as inside_teacher.py. families.py makes the models.
"""

import functools

import torch
from inside_advanced import advanced, made
from inside_presets import SEED, UnderstudyStudentSampler
from inside_teacher import close, far, main, pictures, refused, taught
from inside_teacher_settings import STOCK, TABLE, AnyVae, basic, nodes_flux, patches

# isort: split
# The imports above have made the host and the pack importable.
import comfyui_version
import families
from comfy_extras import nodes_custom_sampler as custom
from comfy_extras.nodes_perpneg import PerpNegGuider
from understudy.nodes.seeds import with_seed
from understudy.nodes.student_preset import UnderstudyStudentPreset
from understudy.samplers.presets import ARCHITECTURES, STUDENTS, TEACHERS
from understudy.samplers.presets.architectures import WAN
from understudy.samplers.presets.settings import Teacher

UnderstudyStudentPreset.hidden = UnderstudyStudentSampler.hidden
LACKING = {"0.8.0": ["Krea2"], "0.33.0": []}
HERE = [name for name in families.ALL if name not in families.ABSENT]
# SDXL is by far the slowest, so it has one student, smaller images, and its teacher refines only; around stand-ins
# inside_presets.py samples its other students, and inside_teacher_settings.py makes its images anew.
OF_SDXL = "sdxl-lightning"
# What a user patches by the host's own nodes; of the others nothing is patched.
PATCHES = STOCK | {
    "z-image-turbo": STOCK["z-image"],
    "sd35-turbox": lambda model: patches.ModelSamplingSD3().patch(model, 5.0)[0],
}
COUNT, REJECTED = 3, (0, 2)
model_of = functools.cache(families.load)


def on_each(check, names):
    """A check of each of these families, told which of them fail."""
    wrong = []
    for name in names:
        try:
            check(name)
        except AssertionError as error:
            wrong.append(f"{name}: {error}")
    assert not wrong, "\n".join(wrong)


def images_of(name):
    side = 32 if name == "SDXL" else 64
    return pictures(COUNT, side, side)


def latent_space(name):
    return ARCHITECTURES[name].latent if name in ARCHITECTURES else WAN


def text(name, seed, place=None, guidance=None):
    """One entry for each image, or that of one; with what FLUX is told of guidance."""
    ((states, options),) = families.text(name, seed, COUNT)
    if place is not None:
        cut = slice(place, place + 1)
        states, options = states[cut], {k: v if v is None else v[cut] for k, v in options.items()}
    told = [[states, options]]
    return told if guidance is None else made(nodes_flux.FluxGuidance, told, guidance)


def latent_of(name, places, preset=None):
    """What a student hands over, all of it empty but for its places."""
    samples = AnyVae(latent_space(name)).encode(images_of(name)[list(places)])
    return with_seed({"samples": torch.zeros_like(samples), "batch_index": list(places)}, SEED, preset)


def stock(guider, sampler, sigmas, samples, place):
    """SamplerCustomAdvanced, for one image of a batch."""
    noise, sampler = made(custom.RandomNoise, SEED), made(custom.KSamplerSelect, sampler)
    latent = {"samples": samples, "batch_index": [place]}
    return made(custom.SamplerCustomAdvanced, noise, guider, sampler, sigmas, latent)["samples"]


def by_row(name, row, samples, place, denoise=1.0):
    """As a row of the table is wired with stock nodes."""
    model = PATCHES.get(row.key, lambda same: same)(model_of(name))
    texts = text(name, 1, place, row.guidance), text(name, 2, place)
    guider = made(custom.CFGGuider, model, *texts, row.cfg)
    return stock(guider, row.sampler, basic(row, model, denoise), samples, place)


def check_the_host_finds_out_which_family_it_is():
    assert LACKING.get(comfyui_version.__version__, families.ABSENT) == families.ABSENT, families.ABSENT
    for name in HERE:
        assert type(model_of(name).model.model_config).__name__ == name, type(model_of(name).model.model_config)


def check_students():
    asked = []

    def check(name):
        for row in STUDENTS.values():
            if name not in row.architectures or (name == "SDXL" and row.key != OF_SDXL):
                continue
            asked.append(row.key)
            for denoise in (1.0, 0.6) if isinstance(row.schedule, str) and name != "SDXL" else (1.0,):
                settings = row.key, row.steps, row.cfg, denoise
                together = student(name, row, range(2), settings)
                close(student(name, row, [1], settings), together[1:], 1e-4)
                far(student(name, row, [2], settings), together[1:])
                close(parts(name, row, range(2), settings), together, 1e-4)
                host = by_row(name, row, latent_of(name, [0])["samples"], 0, denoise)
                close(together[:1], host, 1e-4)

    on_each(check, [name for name in HERE if name in ARCHITECTURES])
    assert {OF_SDXL, "sd35-turbox", "hyper-flux1-dev", "flux1-schnell", "flux2-klein", "z-image-turbo"} <= set(asked)
    assert "krea2-turbo" in asked or "Krea2" in families.ABSENT


def check_a_guidance_that_a_family_is_not_made_for_is_said():
    row = STUDENTS["hyper-flux1-dev"]
    for guidance in (1.0, row.guidance):
        texts = text("Flux", 1, 0, guidance), text("Flux", 2, 0)
        given = model_of("Flux"), *texts, latent_of("Flux", [0]), SEED
        shown = UnderstudyStudentSampler.execute(*given, row.key, row.steps, row.cfg, 1.0).ui
        said = "guidance 1, but hyper-flux1-dev is made for 3.5: set it with FluxGuidance"
        assert (said in str(shown and shown.as_dict())) == (guidance == 1), shown


def student(name, row, places, settings):
    texts = text(name, 1, 0, row.guidance), text(name, 2, 0)
    given = model_of(name), *texts, latent_of(name, places), SEED
    return made(UnderstudyStudentSampler, *given, *settings)["samples"]


def parts(name, row, places, settings):
    """Student Preset before SamplerCustomAdvanced."""
    latent = latent_of(name, places)
    model, sampler, sigmas, cfg = UnderstudyStudentPreset.execute(model_of(name), latent, *settings).result
    guider = made(custom.CFGGuider, model, text(name, 1, 0, row.guidance), text(name, 2, 0), cfg)
    noise = made(custom.RandomNoise, SEED)
    return made(custom.SamplerCustomAdvanced, noise, guider, sampler, sigmas, latent)["samples"]


def check_teachers_by_the_table():
    asked = []

    def check(name):
        for row in TEACHERS.values():
            if name in row.architectures:
                asked.append(row.key)
                preset = next(key for key, each in STUDENTS.items() if row.key in each.teachers)
                teacher(name, row, preset, TABLE)

    on_each(check, HERE)
    assert {"sdxl", "sd35-large", "flux1-dev", "flux2-klein-base", "flux2-dev", "z-image"} <= set(asked)
    assert "krea2-raw" in asked or "Krea2" in families.ABSENT


def check_a_family_without_a_row_is_refused_by_the_table_and_taught_by_the_widgets():
    row = Teacher(key="mine", sampler="dpmpp_2m", schedule="simple", steps=4, cfg=3.0)
    refused(["WAN21_T2V", "no teacher", "'my own'"], teacher, "WAN21_T2V", row, None, TABLE)
    widgets = {"steps": row.steps, "cfg": row.cfg, "sampler_name": row.sampler, "scheduler": row.schedule}
    teacher("WAN21_T2V", row, None, {"settings": "my own", **widgets})


def teacher(name, row, preset, settings):
    """Refined, and made anew: those of a batch, one alone, and one by stock nodes."""
    model, vae, images, place = model_of(name), AnyVae(latent_space(name)), images_of(name), REJECTED[-1]
    ways = [({"rollback_mode": "schedule", "rollback": 0.4}, 0.4), ({"strategy": "regenerate"}, 1.0)]
    for options, denoise in ways[:1] if name == "SDXL" else ways:

        def redo(places, rejected, options=options):
            place = places[0] if len(places) == 1 else None
            texts = {"positive": text(name, 1, place, row.guidance), "negative": text(name, 2, place)}
            given = {"model": model, "vae": vae, "latent": latent_of(name, places, preset), **texts, **settings}
            return taught(images[list(places)], rejected, **given, **options).result[0][0]

        together = redo(range(COUNT), REJECTED)
        assert torch.equal(together[1], images[1])
        if name != "SDXL":
            close(together[place], redo([place], [0])[0], 1e-4)
        encoded = vae.encode(images[place : place + 1])
        start = torch.zeros_like(encoded) if denoise == 1 else encoded
        close(together[place], vae.decode(by_row(name, row, start, place, denoise))[0], 1e-4)
        far(together[place], images[place])


def guiders(name, place=None):
    model, texts = model_of(name), [text(name, seed, place) for seed in (1, 2, 3)]
    return {
        "basic": made(custom.BasicGuider, model, texts[0]),
        "cfg": made(custom.CFGGuider, model, *texts[:2], 3.0),
        "dual": made(custom.DualCFGGuider, model, *texts, 3.0, 2.0, "regular"),
        "perp neg": made(PerpNegGuider, model, *texts, 3.0, 0.7),
    }


def check_teacher_advanced_with_four_guiders():
    def check(name):
        vae, images, place, found = AnyVae(latent_space(name)), images_of(name), REJECTED[-1], []
        sigmas = made(custom.BasicScheduler, model_of(name), "simple", 2 if name == "SDXL" else 4, 1.0)
        later = custom.SplitSigmasDenoise.execute(sigmas, 0.5).args[1]
        options = {"vae": vae, "sampler": made(custom.KSamplerSelect, "euler"), "sigmas": sigmas}
        latents, own = (latent_of(name, range(COUNT)), latent_of(name, [place])), guiders(name, place)
        one = images[place : place + 1]
        for kind, guider in guiders(name).items():
            together = advanced(images, REJECTED, guider, latent=latents[0], **options).args[0][0]
            alone = advanced(one, [0], own[kind], latent=latents[1], **options).args[0][0]
            host = vae.decode(stock(own[kind], "euler", later, vae.encode(one), place))
            assert torch.equal(together[1], images[1])
            close(together[place], alone[0], 1e-4)
            close(together[place], host[0], 1e-4)
            for other in (one[0], *found):
                far(together[place], other)
            found.append(together[place])

    on_each(check, HERE)


if __name__ == "__main__":
    main()
