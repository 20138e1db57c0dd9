"""What can become of an image, in one set of words for nodes, reports and metadata."""

KEPT = "kept"  # the score passed: the student's image
REFINED, REGENERATED = "refined", "regenerated"  # the teacher redid it, and by which strategy
REDONE = "redone"  # another image than the student's; what made it does not say how
REVERTED = "reverted"  # the teacher redid it, and the student's image came back, being no worse

BY_STRATEGY = {"refine": REFINED, "regenerate": REGENERATED}
DECISIONS = (KEPT, REFINED, REGENERATED, REDONE, REVERTED)
