"""An engine that residents of several processes share.

It imports neither torch nor sam2: every trial's actor loads this module, and only the engine's own process needs them.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

from harness.execution.messages import EpochReport, TrialOrder

PATIENCE = 2.0
"""Seconds that an engine waits for a resident that has not asked for its next epoch, before it trains the others."""


class EngineActor:
    """An engine as an actor: residents ask from separate threads, and wait for each other to train together.

    A resident that does not ask within `PATIENCE` seconds, because a scheduler paused it or its actor died, is not
    waited for until it asks again.
    """

    def __init__(self) -> None:
        from harness.execution.engine import Engine  # every holder of a handle loads this class, and most need no torch

        self.engine = Engine()
        self.turn = threading.Condition()
        self.thread = ThreadPoolExecutor(1)  # all of torch in one thread
        self.asked: dict[str, tuple[TrialOrder, int]] = {}
        self.answers: dict[str, Future[EpochReport]] = {}
        self.absent: set[str] = set()
        self.busy = False

    def advance(self, order: TrialOrder, reported: int) -> EpochReport:
        """As ``Engine.advance_one``; of the residents that ask, one trains for all."""
        with self.turn:
            answer: Future[EpochReport] = Future()
            if order.key in self.answers:  # of an actor that died while it waited
                self.answers[order.key].cancel()
            self.asked[order.key], self.answers[order.key] = (order, reported), answer
            self.absent.discard(order.key)
            self.turn.notify_all()
            while not answer.done():
                if self.busy:
                    self.turn.wait()
                elif missing := self.engine.residents.keys() - self.asked.keys() - self.absent:
                    if not self.turn.wait(PATIENCE) and not self.busy:
                        self.absent |= missing
                else:
                    self._train()
        return answer.result()

    def leave(self, key: str) -> None:
        """Let go of a trial."""
        with self.turn:
            self.engine.leave(key)
            self.turn.notify_all()

    def _train(self) -> None:
        """Answer everyone who has asked. Whoever asks or leaves meanwhile is not held up."""
        asked, answers = self.asked, self.answers
        self.asked, self.answers, self.busy = {}, {}, True
        self.turn.release()
        items: dict[str, EpochReport | Exception]
        try:
            items = self.thread.submit(self.engine.advance, list(asked.values())).result()
        except Exception as fault:
            items = dict.fromkeys(answers, fault)
        finally:
            self.turn.acquire()
            self.busy = False
            self.turn.notify_all()
        for key, answer in answers.items():
            match items[key]:
                case Exception() as error:
                    answer.set_exception(error)
                case item:
                    answer.set_result(item)
