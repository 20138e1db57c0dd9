"""A second node pack, for the tests: hands tensors over to the test and gives it inputs that it can foresee."""

import json
import os


class SaveTensors:
    """Write a batch as it is, without rounding to 8 bits: images, latents or a list of numbers."""

    CATEGORY, FUNCTION, OUTPUT_NODE, INPUT_IS_LIST, RETURN_TYPES = "test", "save", True, True, ()

    @classmethod
    def INPUT_TYPES(cls):
        optional = {"images": ("IMAGE",), "latent": ("LATENT",), "floats": ("FLOAT,INT", {"forceInput": True})}
        optional["booleans"] = ("BOOLEAN", {"forceInput": True})
        return {"required": {}, "optional": optional, "hidden": {"unique_id": "UNIQUE_ID"}}

    def save(self, unique_id, images=(), latent=(), floats=(), booleans=()):
        import folder_paths
        import torch
        from safetensors.torch import save_file

        tensors = {f"images.{k}": batch.contiguous().cpu() for k, batch in enumerate(images)}
        tensors |= {f"latent.{k}": each["samples"].contiguous().cpu() for k, each in enumerate(latent)}
        tensors["floats"] = torch.tensor(list(floats), dtype=torch.float64)
        tensors["booleans"] = torch.tensor(list(booleans), dtype=torch.bool)
        directory = folder_paths.get_temp_directory()
        os.makedirs(directory, exist_ok=True)
        name = f"tensors-{unique_id[0]}-{os.urandom(6).hex()}.safetensors"
        save_file(tensors, os.path.join(directory, name))
        return {"ui": {"tensors": [{"filename": name, "subfolder": "", "type": "temp"}]}}


class Floats:
    """A list of numbers from JSON, such as the scores that a test wants images to have."""

    CATEGORY, FUNCTION, RETURN_TYPES, OUTPUT_IS_LIST = "test", "read", ("FLOAT",), (True,)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"numbers": ("STRING", {"default": "[]"})}}

    def read(self, numbers):
        return ([float(number) for number in json.loads(numbers)],)


class Strings:
    """A list of texts from JSON."""

    CATEGORY, FUNCTION, RETURN_TYPES, OUTPUT_IS_LIST = "test", "read", ("STRING",), (True,)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"texts": ("STRING", {"default": "[]"})}}

    def read(self, texts):
        return (list(json.loads(texts)),)


class Anything:
    """A text that may go into any input, a combo too."""

    CATEGORY, FUNCTION, RETURN_TYPES = "test", "read", ("*",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"default": ""})}}

    def read(self, text):
        return (text,)


class NoiseImages:
    """A batch of images of uniform noise, a different one for every index and seed."""

    CATEGORY, FUNCTION, RETURN_TYPES = "test", "make", ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        number = ("INT", {"default": 1, "min": 0, "max": 1 << 31})
        return {"required": {name: number for name in ("seed", "first", "count", "width", "height", "channels")}}

    def make(self, seed, first, count, width, height, channels):
        import torch

        def image(index):
            generator = torch.Generator().manual_seed(seed * 1000 + index)
            return torch.rand(height, width, channels, generator=generator)

        return (torch.stack([image(index) for index in range(first, first + count)]),)


class Solid:
    """A batch of two images of one value, which may be no number."""

    CATEGORY, FUNCTION, RETURN_TYPES = "test", "make", ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("FLOAT", {"forceInput": True})}}

    def make(self, value):
        import torch

        return (torch.full((2, 64, 64, 3), value),)


class Numbers:
    """A list of whole numbers, or of truths, from JSON."""

    CATEGORY, FUNCTION, RETURN_TYPES, OUTPUT_IS_LIST = "test", "read", ("INT", "BOOLEAN"), (True, True)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"numbers": ("STRING", {"default": "[]"})}}

    def read(self, numbers):
        values = json.loads(numbers)
        return ([int(value) for value in values], [bool(value) for value in values])


class OddLatent:
    """A latent as some packs make it: with None for what it does not have, or of two kinds in one."""

    CATEGORY, FUNCTION, RETURN_TYPES = "test", "make", ("LATENT",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"latent": ("LATENT",), "nested": ("BOOLEAN", {"default": False})}}

    def make(self, latent, nested):
        from comfy.nested_tensor import NestedTensor

        odd = {**latent, "noise_mask": None, "batch_index": None}
        return ({**odd, "samples": NestedTensor([odd["samples"]] * 2)} if nested else odd,)


class ChangedLatent:
    """A latent with keys that are not its own: a list of sizes is a mask of ones or latents of zeros."""

    CATEGORY, FUNCTION, RETURN_TYPES = "test", "change", ("LATENT",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"latent": ("LATENT",), "changes": ("STRING", {"default": "{}"})}}

    def change(self, latent, changes):
        import torch
        from comfy.nested_tensor import NestedTensor

        changes = json.loads(changes)
        if changes.get("noise_mask"):
            changes["noise_mask"] = torch.ones(changes["noise_mask"])
        if changes.get("samples") == "nested":
            changes["samples"] = NestedTensor([latent["samples"]] * 2)
        elif "samples" in changes:
            changes["samples"] = torch.zeros(changes["samples"])
        return ({**latent, **changes},)


class Lazy:
    """Asks for its value only if it is wanted."""

    CATEGORY, FUNCTION, OUTPUT_NODE, RETURN_TYPES = "test", "take", True, ()

    @classmethod
    def INPUT_TYPES(cls):
        from comfy.comfy_types import IO

        return {"required": {"wanted": ("BOOLEAN", {"default": False}), "value": (IO.ANY, {"lazy": True})}}

    def check_lazy_status(self, wanted, value=None):
        return ["value"] if wanted else []

    def take(self, wanted, value=None):
        return {}


class Loop:
    """A node that becomes others at run time, as loops do: what it was given lies in their inputs itself."""

    CATEGORY, FUNCTION, OUTPUT_NODE, RETURN_TYPES = "test", "expand", True, ("UNDERSTUDY_SCORES",)

    @classmethod
    def INPUT_TYPES(cls):
        from comfy.comfy_types import IO

        return {"required": {"images": ("IMAGE",), "carried": (IO.ANY, {}), "name": ("STRING", {"default": ""})}}

    def expand(self, images, carried, name):
        from comfy_execution.graph_utils import GraphBuilder

        graph = GraphBuilder()
        inside = graph.node("TestCarry", images=images, carried=carried)
        numbers = graph.node("TestFloats", numbers=json.dumps([0.5] * len(images)))
        scores = graph.node("UnderstudyScoresFromList", scores=numbers.out(0), images=inside.out(0))
        counted = graph.node("UnderstudyCalibrate", scores=scores.out(0), name=name)
        return {"result": (counted.out(0),), "expand": graph.finalize()}


class Carry:
    """Hands its images on."""

    CATEGORY, FUNCTION, RETURN_TYPES = "test", "give", ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        from comfy.comfy_types import IO

        return {"required": {"images": ("IMAGE",), "carried": (IO.ANY, {})}}

    def give(self, images, carried):
        return (images,)


class Ask:
    """Takes anything, so that a node whose output nothing else needs runs."""

    CATEGORY, FUNCTION, OUTPUT_NODE, INPUT_IS_LIST, RETURN_TYPES = "test", "take", True, True, ()

    @classmethod
    def INPUT_TYPES(cls):
        from comfy.comfy_types import IO

        return {"required": {"anything": (IO.ANY, {})}}

    def take(self, anything):
        return {}


class FreeMemory:
    """Asks the host for all the memory there is, as a model that needs the room does; says what had to leave."""

    CATEGORY, FUNCTION, OUTPUT_NODE, RETURN_TYPES = "test", "ask", True, ("STRING",)

    @classmethod
    def INPUT_TYPES(cls):
        from comfy.comfy_types import IO

        return {"required": {"after": (IO.ANY, {})}}

    def ask(self, after):
        import comfy.model_management as management

        def loaded():
            return sum(_is_oracle(entry) for entry in management.current_loaded_models)

        before = loaded()
        management.free_memory(1e30, management.get_torch_device())
        text = f"oracles loaded: {before}, then {loaded()}"
        return {"ui": {"text": [text]}, "result": (text,)}


def _is_oracle(entry):
    import torch

    return entry.model is not None and isinstance(entry.model.model, torch.nn.ModuleList)


class Memory:
    """Says how many MiB the server holds, after something ran."""

    CATEGORY, FUNCTION, OUTPUT_NODE, RETURN_TYPES = "test", "tell", True, ()

    @classmethod
    def INPUT_TYPES(cls):
        from comfy.comfy_types import IO

        return {"required": {"after": (IO.ANY, {})}}

    def tell(self, after):
        import gc

        import psutil

        gc.collect()
        return {"ui": {"text": [str(psutil.Process().memory_info().rss // 2**20)]}}


NODE_CLASS_MAPPINGS = {
    "TestAnything": Anything,
    "TestFreeMemory": FreeMemory,
    "TestMemory": Memory,
    "TestAsk": Ask,
    "TestSaveTensors": SaveTensors,
    "TestFloats": Floats,
    "TestStrings": Strings,
    "TestNumbers": Numbers,
    "TestOddLatent": OddLatent,
    "TestChangedLatent": ChangedLatent,
    "TestLazy": Lazy,
    "TestLoop": Loop,
    "TestCarry": Carry,
    "TestNoiseImages": NoiseImages,
    "TestSolid": Solid,
}
