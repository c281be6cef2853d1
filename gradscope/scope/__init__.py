"""A recorder on a run folder that can be asked for its diagnosis, and that tells what is new by itself.

watching.py   `watch`: one line around an existing loop
scope.py      what it gives: the training as its user holds it
lookout.py    judges the run while it grows, for `on_finding`
pace.py       how often, within the overhead
seen.py       which findings are new
arguments.py  what `watch` may be given
facts.py      what is known of a training before it begins
folders.py    where a run is recorded
"""

from gradscope.scope.folders import link_latest
from gradscope.scope.scope import Loss, Scope
from gradscope.scope.watching import open_scopes, watch

__all__ = ["Loss", "Scope", "link_latest", "open_scopes", "watch"]
