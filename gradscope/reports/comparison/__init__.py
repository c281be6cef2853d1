"""Two runs side by side as text, one file a format: each renders the plain document of `comparison.to_document`.

document.py  what the formats render: the comparison with the reports of both runs
words.py     what they say alike
map.py       the map of the difference
"""
