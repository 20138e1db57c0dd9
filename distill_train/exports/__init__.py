"""Students in the layouts that ComfyUI's stock loaders and A1111 know."""
