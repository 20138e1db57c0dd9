"""Student, oracle and teacher without ComfyUI: real checkpoints through diffusers' networks and our own samplers."""
