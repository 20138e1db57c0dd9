"""A picture of the job: what it was made from, and what the host still does to it after our hook."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

SOFT_INPAINTING = "soft inpainting lays its overlay by what the student's first picture changed; switch it off"


@dataclass(frozen=True)
class Frame:
    """What the host lays around one picture after ``postprocess_batch_list``.

    source: the init image that it was made from (PIL), None for text to image. region: (x, y, w, h) of the source that
    was worked on where only the masked part is, else None. overlay: the source's unmasked part (PIL, RGBA), None where
    the host lays none. correction: the source's colours, as the host has them, None without. faces: whether the host
    restores faces.
    """

    source: object = None
    region: tuple[int, int, int, int] | None = None
    overlay: object = None
    correction: object = None
    faces: bool = False

    def finished(self, pixels: torch.Tensor):
        """The PIL image that the host makes of pixels [3, H, W] in [0, 1]; what other extensions do is not in it."""
        return self._composed(pixels)[0]

    def shown(self, pixels: torch.Tensor) -> torch.Tensor:
        """What the oracle is to see of pixels [3, H, W] in [0, 1]: them under the overlay, in the region worked on.

        Of "only masked" that is the region and not the whole, which the prompt does not describe and of which it may be
        a small part. Restored faces are not in it: they would have to be restored twice.
        """
        if self.overlay is None and self.correction is None:
            return pixels
        image = replace(self, faces=False).finished(pixels)
        if self.overlay is not None and self.region is not None:
            x, y, width, height = self.region
            image = image.crop((x, y, x + width, y + height))
        return pixels_of(image)

    def cut_out(self, pixels: torch.Tensor, mask):
        """The host's "masked composite" (PIL, RGBA): the picture where the mask is, nothing elsewhere."""
        from modules.images import resize_image
        from PIL import Image

        image, bare = self._composed(pixels)
        nothing = Image.new("RGBa", image.size)
        where = resize_image(2, mask, image.width, image.height).convert("L")
        return Image.composite(bare.convert("RGBA").convert("RGBa"), nothing, where).convert("RGBA")

    def _composed(self, pixels: torch.Tensor) -> tuple:
        """With and without the overlay, in the host's own order."""
        import numpy
        from modules import face_restoration, processing
        from PIL import Image

        image = picture_of(pixels)
        if self.faces:
            image = Image.fromarray(face_restoration.restore_faces(numpy.array(image)))
        if self.correction is not None:
            image = processing.apply_color_correction(self.correction, image)
        return processing.apply_overlay(image, self.region, self.overlay)


@dataclass
class Picture:
    """One picture of the job.

    pixels: [3, H, W] in [0, 1], before the frame; latent: [C, h, w] or None where the host gave none; both on the CPU.
    """

    prompt: str
    negative: str
    seed: int
    subseed: int
    pixels: torch.Tensor
    latent: torch.Tensor | None
    score: float
    frame: Frame = Frame()


def is_soft(p) -> bool:
    """Whether the host's soft inpainting lays the overlays, which none but the pictures that it saw may lie under."""
    return bool(p.extra_generation_params.get("Soft inpainting enabled"))  # its script's own key


def frames(p, count: int) -> list[Frame]:
    """Those of a batch of so many pictures. Sources and overlays go by a picture's place in its batch, in each batch.

    A folder of img2img's "batch" tab is many jobs, one after the other, each with its own sources.
    """
    from modules import shared

    def at(several, place: int):
        return several[place] if several and place < len(several) else None

    sources = getattr(p, "init_images", None) or []
    overlays = getattr(p, "overlay_images", None) if shared.opts.overlay_inpaint else None
    corrections, region, faces = p.color_corrections, getattr(p, "paste_to", None), bool(p.restore_faces)
    return [
        Frame(at(sources, place if len(sources) > 1 else 0), region, at(overlays, place), at(corrections, place), faces)
        for place in range(count)
    ]


def pixels_of(image) -> torch.Tensor:
    """A picture of the host as its hooks have them: [3, H, W] in [0, 1], which it cuts to the same bytes again."""
    import numpy

    bytes_of = torch.from_numpy(numpy.array(image.convert("RGB"))).permute(2, 0, 1).float()
    return ((bytes_of + 0.25) / 255).clamp(max=1)  # a little above, since the host cuts and does not round


def picture_of(pixels: torch.Tensor):
    """The host's own way from [3, H, W] in [0, 1] to a PIL image."""
    import numpy
    from PIL import Image

    return Image.fromarray((255.0 * numpy.moveaxis(pixels.numpy(), 0, 2)).astype(numpy.uint8))
