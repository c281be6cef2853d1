"""What a user gave as `on_finding=`, as handlers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import urlsplit

from gradscope.alerts.callback import Callback
from gradscope.alerts.handler import Handler
from gradscope.alerts.log import Log
from gradscope.alerts.printed import Print
from gradscope.alerts.stop import Stop
from gradscope.alerts.webhook import Webhook
from gradscope.errors import WatchError

OFF = "GRADSCOPE_ON_FINDING"  # "off" in the environment: nobody is told, as in the runs of a trial
_WORDS: dict[str, type[Handler]] = {"raise": Stop, "log": Log, "print": Print}


def handlers_of(given: object, world: int = 1) -> tuple[Handler, ...]:
    """The handlers that were asked for, in that order; none of them where the environment says GRADSCOPE_ON_FINDING=off.

    Args:
        given: `on_finding=`.
        world: how many processes train together.

    Raises:
        WatchError: it is nothing that can be told, or it would end one of several processes: the others would wait for
            it for ever.

    Example:
        >>> [str(handler) for handler in handlers_of(["log", "https://example.org/hook/secret"])]
        ['Log', 'https://example.org/…']
        >>> handlers_of("shout")
        Traceback (most recent call last):
        gradscope.errors.WatchError: on_finding= expected "raise", "log", "print", an http:// or https:// address, a ...
    """
    handlers = tuple(_handlers(given))
    if world > 1 and any(isinstance(handler, Stop) for handler in handlers):
        raise WatchError(
            f'on_finding="raise" ends a training in one process; {world} train here together, and those that did not end '
            'would wait for ever. Give a function, "log" or a webhook instead, and end all of them yourself.'
        )
    return () if os.environ.get(OFF, "").lower() == "off" else handlers


def _handlers(given: object) -> Iterator[Handler]:
    if isinstance(given, (list, tuple)):
        for each in given:
            yield from _handlers(each)
    elif isinstance(given, Handler):
        yield given
    elif isinstance(given, str) and given in _WORDS:
        yield _WORDS[given]()
    elif isinstance(given, str) and urlsplit(given).scheme in ("http", "https"):
        yield Webhook(given)
    elif callable(given) and not isinstance(given, type):
        yield Callback(given)
    elif given is not None:
        got = f"the class {given.__name__}" if isinstance(given, type) else repr(given)[:80]
        raise WatchError(
            'on_finding= expected "raise", "log", "print", an http:// or https:// address, a function of one finding, '
            f"a handler of gradscope.alerts, or a list of these; it got {got}."
        )
