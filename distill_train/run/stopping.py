"""Stop between two steps when asked to, with everything saved."""

import signal
import threading


class Stopped(Exception):
    """A training was asked to stop, and did; the message says where and how to go on."""


class StopRequest:
    """As a context, Ctrl-C and a launcher's SIGTERM set ``asked``; a second one is a KeyboardInterrupt."""

    def __init__(self):
        self.asked = False

    def __enter__(self) -> "StopRequest":
        # Python lets handlers be set in the main thread alone.
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            self._before = {name: signal.signal(name, self._ask) for name in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_) -> None:
        for name, handler in self._before.items():
            signal.signal(name, handler)

    def _ask(self, *_) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
