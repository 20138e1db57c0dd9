"""Runs in the host's own interpreter: what its text nodes make of a checkpoint's encoder beside what the trainer does.

usage: python inside_texts.py COMFYUI_FOLDER PACK_FOLDER CHECKPOINT EXPECTED

EXPECTED is a safetensors file of the trainer's embeddings by "CLIP SKIP|PROMPT". Prints one JSON object as
``inside_teacher.py`` does.
"""

import json
import sys

import torch
from safetensors.torch import load_file

COMFYUI, _, CHECKPOINT, EXPECTED = sys.argv[1:5]
sys.argv[1:] = ["--cpu"]
sys.path.insert(0, COMFYUI)

# E402 from here on: the host's modules are found by the path, and read the arguments, that were set above.
import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()
import comfy.sd  # noqa: E402

import nodes as host_nodes  # noqa: E402

TOLERANCE = 1e-4  # of the largest value: the sums are in another order


def main():
    clip = comfy.sd.load_checkpoint_guess_config(CHECKPOINT, output_vae=False, output_clip=True)[1]
    results = {}
    for name, ours in load_file(EXPECTED).items():
        skip, prompt = name.split("|")
        (skipped,) = host_nodes.CLIPSetLastLayer().set_last_layer(clip, -int(skip))
        (theirs,) = host_nodes.CLIPTextEncode().encode(skipped, prompt)[0]
        theirs = theirs[0].float()
        wrong = f"{tuple(theirs.shape)}, ours {tuple(ours.shape)}" if theirs.shape != ours.shape else None
        if wrong is None and (off := (theirs - ours).abs().max() / theirs.abs().max()) > TOLERANCE:
            wrong = f"off by {off:.2g} of the largest value"
        results[f"clip skip {skip}, {len(prompt)} letters"] = wrong
    sys.stdout.write("\n" + json.dumps(results) + "\n")


with torch.inference_mode():
    main()
