"""A1111, Forge and Forge Neo: the panel, the job around the host's own, the teacher's pass. See ``docs/a1111.md``."""
