"""ComfyUI adaptors: one file per step of a graph, no maths and no model code.

Nothing is imported before ComfyUI asks for the nodes, and the libraries that a node needs are imported when it runs.
"""

from __future__ import annotations

import importlib
import logging

log = logging.getLogger(__name__)

# Module and classes, in the order of a graph.
CLASSES = {
    "demo": ("UnderstudyLoadDemo",),
    "prompts": ("UnderstudyPrompts",),
    "apply_predictor": ("UnderstudyApplyGradientPredictor",),
    "student": ("UnderstudyStudentSampler",),
    "student_preset": ("UnderstudyStudentPreset",),
    "best_of": ("UnderstudyBestOf",),
    "load_oracle": ("UnderstudyLoadOracle",),
    "score_images": ("UnderstudyScoreImages",),
    "scores_from_list": ("UnderstudyScoresFromList",),
    "likeness": ("UnderstudyLikeness",),
    "combine": ("UnderstudyCombineOracles",),
    "calibrate": ("UnderstudyCalibrate",),
    "show_calibration": ("UnderstudyShowCalibration",),
    "manage_calibration": ("UnderstudyManageCalibration",),
    "threshold": ("UnderstudyThreshold",),
    "thresholds": (
        "UnderstudyThresholdPercentile",
        "UnderstudyThresholdBudget",
        "UnderstudyThresholdFixed",
        "UnderstudyThresholdWorst",
    ),
    "attention_guidance": ("UnderstudyAttentionGuidance",),
    "teacher": ("UnderstudyTeacher",),
    "teacher_advanced": ("UnderstudyTeacherAdvanced",),
    "split": ("UnderstudySplit",),
    "merge": ("UnderstudyMerge",),
    "keep_better": ("UnderstudyKeepBetter",),
    "receipt": ("UnderstudyReceipt",),
}


async def node_classes() -> list:
    """All node classes; a module that lacks a library costs its own nodes and one line in the log, not the pack."""
    from .errors import with_builtin_errors

    found = []
    for module_name, names in CLASSES.items():
        try:
            module = importlib.import_module(f".{module_name}", __name__)
        except ImportError as error:
            log.error("Understudy: %s cannot be used: %s", " and ".join(names), error)
            continue
        found += [with_builtin_errors(getattr(module, name)) for name in names]
    return found


def extension():
    """The pack as ComfyUI's V3 extension object."""
    from comfy_api.latest import ComfyExtension

    class Understudy(ComfyExtension):
        async def get_node_list(self):
            from .folders import add_model_folders
            from .help_pages import serve_help_pages

            # Not in on_load, which ComfyUI 0.8.0 does not call.
            add_model_folders()
            serve_help_pages()
            return await node_classes()

    return Understudy()
