"""What writes ``example_workflows/`` and ``subgraphs/``: a graph is written as code here and never edited by hand.

A development tool: neither the wheel nor the registry's archive has it. ``python -m understudy.templates`` writes all
files: those that ``families/`` gives, a file for each family of templates, and the blueprints of ``blocks.py``.

A template is named "Understudy <number> - <what it shows>". 1 to 9 run with the embedded demo models, from 10 on are
pairs of real models, from 50 on is what one does with them (editing, ControlNets, best of n, comparing oracles,
calibrating). A host lists templates as its file system does, and the front end leaves them so unless somebody sorts
them from A to Z: front end 1.49.6 then goes by the number; 1.35.9, of ComfyUI 0.8.0, by the text, with 10 behind 1.
The dialog shows about the first 27 letters of a name.
"""
