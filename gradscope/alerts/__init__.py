"""Who is told when a training that runs shows something new: what `gradscope.watch(..., on_finding=...)` takes.

    on_finding=function                a function of one finding                     Callback(function)
    on_finding="print"                 a line on stderr                              Print()
    on_finding="log"                   Python's logging, logger "gradscope"          Log()
    on_finding="https://host/path"     a JSON document, posted from a thread         Webhook(url)
    on_finding="raise"                 the training ends, with a readable error      Stop()

The objects on the right take options: whom a `note` reaches too, what headers a webhook is sent. A sequence of any of
these tells all of them. A class derived from `Handler` tells whom you like.
"""

from gradscope.alerts.alert import Alert
from gradscope.alerts.callback import Callback
from gradscope.alerts.given import handlers_of
from gradscope.alerts.handler import Handler
from gradscope.alerts.log import Log
from gradscope.alerts.printed import Print
from gradscope.alerts.stop import Stop
from gradscope.alerts.webhook import Webhook

__all__ = ["Alert", "Callback", "Handler", "Log", "Print", "Stop", "Webhook", "handlers_of"]
