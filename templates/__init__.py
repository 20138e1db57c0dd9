"""What writes ``example_workflows/`` and ``subgraphs/``: a graph is written as code here and never edited by hand.

A development tool: neither the wheel nor the registry's archive has it. ``python -m understudy.templates`` writes all
files: those that ``families/`` gives, a file for each family of templates, and the blueprints of ``blocks.py``.

A template is named "Understudy <number> - <what it shows>"; the number gives its place where templates are listed by
their names. 1 to 9 run with the embedded demo models, from 10 on are pairs of real models, from 50 on is what one does
with them (editing, ControlNets, best of n, comparing oracles, calibrating). Front end 1.49.6 sorts such names as
numbers; 1.35.9, of ComfyUI 0.8.0, as text, with 10 behind 1.
"""
