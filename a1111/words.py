"""What the panel says: a label and a tooltip for each widget. ``localizations/`` translates every text here."""

from __future__ import annotations

from .choices import RULES

WIDGETS = {
    "oracle": ("Oracle", "Scores each picture for its prompt: a file in models/oracles."),
    "rule": ("Redo", "Which pictures the teacher makes again."),
    "share": (
        "Worst share, %",
        "Percent of the whole job's pictures that are redone: those with the lowest scores.",
    ),
    "percentile": ("Percentile", "A picture that scores below this percentile of the calibration is redone."),
    "calibration": ("Calibration", "Scores of the student's pictures: a file in models/understudy_calibrations."),
    "score": (
        "Lowest score to keep",
        "A picture that scores lower is redone. What a score means, the oracle says.",
    ),
    "budget": (
        "Evaluations per picture",
        "The mean cost of a picture, student and teacher together, in runs of the network. As many are redone as it "
        "leaves room for.",
    ),
    "teacher": (
        "Teacher",
        "Makes the bad pictures again. The same checkpoint, without what makes it fast, needs no switch; another one "
        "is loaded once per job or batch, and the student after it.",
    ),
    "remove": (
        "Taken off the teacher's prompt",
        "Parts of the prompt that make the student fast, separated by commas; * is any text.",
    ),
    "modules": ("Teacher's VAE and text encoders", "Files that another checkpoint needs beside it."),
    "sampler": (
        "Teacher's sampler",
        "It starts exactly at the way back; DDIM, PLMS and UniPC at the network's nearest timestep.",
    ),
    "scheduler": (
        "Teacher's schedule",
        "Its curve is followed from the way back down to no noise. DDIM, PLMS and UniPC have their own: leave it at "
        "Automatic.",
    ),
    "steps": ("Teacher's steps", "All of them are run, however far the way back."),
    "cfg": ("Teacher's CFG", "The teacher's guidance scale."),
    "noise": (
        "Way back, as noise",
        "Where the teacher starts: the share of noise in the picture's variance. 0 changes nothing, 1 makes a new "
        "picture.",
    ),
    "best_of": ("Best of", "The student makes each picture so many times, and the one with the best score counts."),
    "keep_better": ("Keep the better one", "The student's picture stays where the teacher's scores lower."),
    "save_student": ("Save the student's pictures too", "Beside the teacher's, with -student at the name's end."),
    "receipt": ("Receipt", "A report picture at the end of the gallery: scores, decisions and costs."),
    "record": (
        "Record scores as",
        "The calibration that the student's scores are added to, begun where there is none. Empty: none.",
    ),
    "control": ("ControlNet for the teacher", "The teacher keeps the job's ControlNet, where the host allows it."),
}
REFRESH = "Look for new oracles, checkpoints and calibrations"
OPEN_DOWNLOAD = "Fetch a published oracle"
PUBLISHED = ("Published oracle", "Each is fetched from its authors' page. Its licence applies.")
DOWNLOAD = ("Download into models/oracles", "Nothing is fetched before you press this. One to two gigabytes each.")
SETTINGS = (
    "Settings of the student's file",
    "For a student of 'understudy train': fills in the sampler, steps and CFG that its file states, and its teacher. "
    "The file is the prompt's LoRA, or the loaded checkpoint.",
)
NOT_OURS = (
    "Neither a LoRA of the prompt nor the loaded checkpoint is a file of 'understudy train' or 'understudy export', "
    "so nothing is filled in."
)
CHOOSE_FIRST = "Choose which oracle to fetch first."
BUSY = "Another oracle is being fetched; wait until it is there."
# On the host's page of settings, which puts the last in brackets.
DEVICE = (
    "Where the oracle scores",
    "the host's device, while it scores",
    "on the CPU it takes no video memory, and longer",
)
# Of the host's plot, by what each sets.
AXES = {
    "rule value": "[Understudy] Rule value",
    "noise": "[Understudy] Way back, as noise",
    "steps": "[Understudy] Teacher steps",
    "best_of": "[Understudy] Best of",
    "oracle": "[Understudy] Oracle",
}
LAST_JOB, SCORED, REDONE, NOT_REDONE = "Last job:", "scored", "redone", "not redone"
STUDENTS_BETTER = "student's better"


def every() -> list[str]:
    """All texts that are translated."""
    pairs = [*WIDGETS.values(), PUBLISHED, DOWNLOAD, SETTINGS]
    said = [REFRESH, OPEN_DOWNLOAD, LAST_JOB, SCORED, REDONE, NOT_REDONE, STUDENTS_BETTER, NOT_OURS, CHOOSE_FIRST, BUSY]
    label, device, info = DEVICE
    return [*RULES, *(text for pair in pairs for text in pair), *said, label, device, f"({info})", *AXES.values()]
