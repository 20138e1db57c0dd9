"""What ComfyUI's node search finds, by the rule of its front end (1.35.9 and 1.49.6).

There each word of a query has to be in one and the same text of a node: its id, its display name or, where host and
front end have them, one of its search aliases. The front end's search is fuzzy and takes more than this: a word with
an error in three letters, or further behind. The category is not searched.
"""

WANTED = {
    "imagereward": ["UnderstudyLoadOracle"],
    "hpsv2": ["UnderstudyLoadOracle"],
    "pickscore": ["UnderstudyLoadOracle"],
    "clip score": ["UnderstudyLoadOracle", "UnderstudyScoreImages"],
    "aesthetic score": ["UnderstudyLoadOracle", "UnderstudyScoreImages"],
    "best of n": ["UnderstudyBestOf"],
    "quality gate": ["UnderstudyThreshold", "UnderstudySplit"],
    "reroll": ["UnderstudyBestOf"],
    "judge": ["UnderstudyScoreImages", "UnderstudyScoresFromList"],
    "filter bad images": ["UnderstudySplit"],
    "auto retry": ["UnderstudyBestOf", "UnderstudyTeacher"],
    "detailer for bad only": ["UnderstudySplit", "UnderstudyMerge"],
    "calibration": ["UnderstudyCalibrate", "UnderstudyShowCalibration", "UnderstudyManageCalibration"],
    "histogram": ["UnderstudyShowCalibration"],
}
REACH = 30  # letters into a text; a word that begins further behind is too far off for the fuzzy search


def finds(query, schema, aliases=True):
    texts = [schema.node_id, schema.display_name, *(schema.search_aliases if aliases else ())]
    return any(all(0 <= text.lower().find(word) <= REACH for word in query.lower().split()) for text in texts)
