"""Run with the host's Python: what loading the pack adds to the host's start, as one line of JSON.

    python inside_startup.py COMFYUI PACK

``seconds`` of processor time, since the wall time that ComfyUI itself prints depends on what else the machine does, and
the ``modules`` that were not there before.
"""

import asyncio
import importlib
import importlib.util
import json
import sys
import time

comfyui, pack = sys.argv[1:]
sys.argv = [sys.argv[0], "--cpu"]
sys.path[0] = comfyui

# E402 from here on: the host's modules are found by the path, and read the arguments, that were set above.
import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

# In the order of the host's main.py, as "utils" is also the name of a module of comfy's.
for name in ("utils.extra_config", "server", "nodes", "comfy_api.latest"):
    importlib.import_module(name)


async def load():
    spec = importlib.util.spec_from_file_location("pack_under_test", f"{pack}/__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["pack_under_test"] = module
    spec.loader.exec_module(module)
    extension = await module.comfy_entrypoint()
    await extension.on_load()
    for node in await extension.get_node_list():
        node.GET_SCHEMA()


before = set(sys.modules)
start = time.process_time()
asyncio.run(load())
seconds = time.process_time() - start
sys.stdout.write(json.dumps({"seconds": seconds, "modules": sorted(set(sys.modules) - before)}) + "\n")
