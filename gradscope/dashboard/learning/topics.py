"""All lessons, by id, in the order of the index."""

from __future__ import annotations

from gradscope.dashboard.learning.layers import LAYERS
from gradscope.dashboard.learning.losses import LOSSES
from gradscope.dashboard.learning.sicknesses import SICKNESSES
from gradscope.dashboard.learning.topic import GROUPS, Topic

TOPICS: dict[str, Topic] = {topic.id: topic for topic in (*LOSSES, *LAYERS, *SICKNESSES)}


def grouped() -> dict[str, list[Topic]]:
    """The lessons of each group."""
    return {group: [topic for topic in TOPICS.values() if topic.group == group] for group in GROUPS}
