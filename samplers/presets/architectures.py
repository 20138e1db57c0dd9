"""The classes of ComfyUI's ``comfy.supported_models`` that students and teachers load as, and their latents; and the
demo family's class, which is this pack's.

From that file and ``latent_formats.py`` of ComfyUI 0.33.0, which the tests read again; QwenImage21 from 0.37's.
"""

from __future__ import annotations

from .settings import Architecture, Discrete, Latent, Mu, Shift

SD15 = Latent("SD15", 4, 8)
SDXL = Latent("SDXL", 4, 8)
SD3 = Latent("SD3", 16, 8)
FLUX = Latent("Flux", 16, 8)
FLUX2 = Latent("Flux2", 128, 16)
MAGE = Latent("Mage-Flow", 128, 16, format="Flux2")  # shaped as FLUX.2's, but of a VAE of its own
WAN = Latent("Wan21", 16, 8, frames=True)
QWEN21 = Latent("QwenImage21", 64, 16)
DEMO = Latent("Understudy demo", 8, 8, format="LatentFormat")

ARCHITECTURES = {
    "SD15": Architecture(Discrete(), SD15),
    "SD20": Architecture(Discrete(), SD15),
    "SDXL": Architecture(Discrete(), SDXL),
    "SD3": Architecture(Shift(3.0), SD3, multiplier=1000.0),
    "Flux": Architecture(Mu(1.15), FLUX),
    "FluxSchnell": Architecture(Shift(1.0), FLUX),
    "ZImage": Architecture(Shift(3.0), FLUX),
    "Boogu": Architecture(Shift(3.16), FLUX),
    # The class sets shift 3 and takes it back two lines on: a patch is needed.
    "HiDream": Architecture(Shift(1.0), FLUX, multiplier=1000.0),
    "Flux2": Architecture(Mu(2.02), FLUX2),
    "Lens": Architecture(Mu(1.829), FLUX2),
    "ErnieImage": Architecture(Shift(3.0), FLUX2, multiplier=1000.0),
    "MageFlow": Architecture(Shift(6.0), MAGE),
    "QwenImage": Architecture(Mu(1.15), WAN),
    "Krea2": Architecture(Mu(1.15), WAN),
    "Anima": Architecture(Shift(3.0), WAN),
    "QwenImage21": Architecture(Mu(0.69), QWEN21),
    "Flux3": Architecture(None, FLUX2),  # its class, name and time were not to be read; the templates use FLUX.2's VAE
    "UnderstudyDemo": Architecture(Discrete(), DEMO),
}
