"""Read what the test pack's SaveTensors node wrote."""

from safetensors.torch import load_file


def tensors(host, run, node):
    """``{"images.0": …, "latent.0": …, "floats": …, "booleans": …}``; the number counts the items of a list."""
    return load_file(host.file(run.outputs[node]["tensors"][0]))


def batches(host, run, node):
    """The images that it wrote: a list of batches."""
    found = tensors(host, run, node)
    return [found[f"images.{k}"] for k in range(sum(name.startswith("images.") for name in found))]
