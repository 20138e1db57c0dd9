"""Run with the host's Python: processor seconds that loading the pack adds to the host's start.

    python inside_startup.py COMFYUI PACK

Processor time, since the wall time that ComfyUI itself prints depends on what else the machine does.
"""

import asyncio
import importlib
import importlib.util
import sys
import time

comfyui, pack = sys.argv[1:]
sys.argv = [sys.argv[0], "--cpu"]
sys.path[0] = comfyui

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


start = time.process_time()
asyncio.run(load())
sys.stdout.write(f"{time.process_time() - start}\n")
