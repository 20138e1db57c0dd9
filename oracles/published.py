"""The published oracle files: what they are, where they come from, under which licence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HUB = "https://huggingface.co"


@dataclass(frozen=True)
class Published:
    """One file. ``sha256`` and ``size`` (bytes) are those of the file, or of its Git LFS pointer on the hub.

    Where one is None, the hub's word at the time of a download counts. ``encoder`` names the image encoder that a
    bare head needs.
    """

    name: str
    family: str
    file: str
    url: str
    licence: str
    source: str
    sha256: str | None = None
    size: int | None = None
    encoder: str | None = None

    @property
    def page(self) -> str:
        """Where its authors describe it, with the licence."""
        return self.url.partition("/resolve/")[0].partition("/raw/")[0]


def _hub(repository: str, file: str) -> str:
    return f"{HUB}/{repository}/resolve/main/{file}"


PUBLISHED = (
    Published(
        name="imagereward",
        family="imagereward",
        file="ImageReward.pt",
        url=_hub("zai-org/ImageReward", "ImageReward.pt"),
        licence="Apache-2.0",
        source="Xu et al. 2023, arXiv 2304.05977",
        sha256="d71dc8d4912bc633c06ab8ef1ef6a81e8199d4369f14b47b29baf1d19de561f6",
        size=1_786_880_927,
    ),
    Published(
        name="hpsv2",
        family="hpsv2",
        file="HPS_v2_compressed.pt",
        url=_hub("xswu/HPSv2", "HPS_v2_compressed.pt"),
        licence="Apache-2.0",
        source="Wu et al. 2023, arXiv 2306.09341",
        sha256="07cb0d20626232204ca3a6ec53ff5984e7e53212a8a7b0e0ec2bac1bdaf125a1",
        size=1_972_484_501,
    ),
    Published(
        name="hpsv2.1",
        family="hpsv2.1",
        file="HPS_v2.1_compressed.pt",
        url=_hub("xswu/HPSv2", "HPS_v2.1_compressed.pt"),
        licence="Apache-2.0",
        source="Wu et al. 2023, arXiv 2306.09341",
        sha256="c57a38fb4a2f7e7c15bf00da2ea377cdf165448b4dd1052a484c215a998c9837",
        size=1_972_490_005,
    ),
    Published(
        name="pickscore",
        family="pickscore",
        file="PickScore_v1.safetensors",
        url=_hub("yuvalkirstain/PickScore_v1", "model.safetensors"),
        licence="see the model page",
        source="Kirstain et al. 2023, arXiv 2305.01569",
        sha256="ef31ef6fc5ff4d9bb90dd232df4e145887ba62c5a03aa2841415f8c25f18d52e",
    ),
    Published(
        name="clip-vit-large-patch14",
        family="clipscore",
        file="clip-vit-large-patch14.safetensors",
        url=_hub("openai/clip-vit-large-patch14", "model.safetensors"),
        licence="MIT (code); see the model page",
        source="Radford et al. 2021, arXiv 2103.00020; Hessel et al. 2021, arXiv 2104.08718",
        sha256="a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
        size=1_710_540_580,
    ),
    Published(
        name="laion-aesthetic-v2",
        family="laion-aesthetic-v2",
        file="sac+logos+ava1-l14-linearMSE.pth",
        url="https://github.com/christophschuhmann/improved-aesthetic-predictor/raw/main/"
        "sac%2Blogos%2Bava1-l14-linearMSE.pth",
        licence="Apache-2.0",
        source="github.com/christophschuhmann/improved-aesthetic-predictor",
        sha256="21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0",
        size=3_714_759,
        encoder="clip-vit-large-patch14",
    ),
    Published(
        name="aesthetic-v2.5",
        family="aesthetic-v2.5",
        file="aesthetic_predictor_v2_5.pth",
        url="https://github.com/discus0434/aesthetic-predictor-v2-5/raw/main/models/aesthetic_predictor_v2_5.pth",
        licence="AGPL-3.0",
        source="github.com/discus0434/aesthetic-predictor-v2-5",
        sha256="a6caf256b3dc434273c98dcb12f6bf17c5d4fc647d8df11f038386923dd06220",
        size=2_644_834,
        encoder="siglip-so400m-patch14-384",
    ),
    Published(
        name="siglip-so400m-patch14-384",
        family="",
        file="siglip-so400m-patch14-384.safetensors",
        url=_hub("google/siglip-so400m-patch14-384", "model.safetensors"),
        licence="Apache-2.0",
        source="Zhai et al. 2023, arXiv 2303.15343",
    ),
)


def folder_for(entry: Published) -> Path:
    """The host's folder for this file, if the pack lies in a ComfyUI. Raises ValueError elsewhere."""
    # As it is named, not where a link to it points: a linked pack is in the host's folder too.
    custom_nodes = Path(__file__).absolute().parents[2]
    if custom_nodes.name != "custom_nodes":
        raise ValueError("this pack does not lie in a ComfyUI's custom_nodes; say where the file goes with --to FOLDER")
    return (
        custom_nodes.parent / "models" / ("oracles" if entry.family and entry.family != "clipscore" else "clip_vision")
    )


def by_name(name: str) -> Published:
    """The entry of this name. Raises ValueError that lists the names."""
    for entry in PUBLISHED:
        if entry.name == name:
            return entry
    raise ValueError(f"{name!r} is no published file; choose one of {', '.join(entry.name for entry in PUBLISHED)}")


def recognised(file_name: str, sha256: str) -> Published | None:
    """The entry whose hash this is, else the one whose published file name it is."""
    for entry in PUBLISHED:
        if entry.sha256 == sha256:
            return entry
    return next((entry for entry in PUBLISHED if entry.file.lower() == file_name.lower()), None)
