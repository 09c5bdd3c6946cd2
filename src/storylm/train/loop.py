"""The loop: update, log, tell, judge, save, until the clock says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storylm.optim.schedule import learning_rate_factor
from storylm.train.signals import StopSignal

if TYPE_CHECKING:
    from storylm.train.session import Session


def train_loop(session: Session, stop: StopSignal) -> str:
    """Train until the end and say why it ended: "finished", "no gain", "diverged" or "interrupted"."""
    train, state = session.config.train, session.state
    while (progress := session.clock.progress(state.step)) < 1.0:
        factor = learning_rate_factor(session.config.optim, state.step, progress)
        session.update(factor)
        if state.bad_in_a_row >= train.max_bad_steps:
            return "diverged"  # the last good checkpoint stays the last one
        if _due(train.log_every, state.step):
            session.log(progress, factor)
        if _due(train.sample_every, state.step):
            session.sample()
        if _due(train.eval_every, state.step):
            session.evaluate()
        if session.save_due():
            session.save()
        if train.patience is not None and state.without_gain >= train.patience:
            return "no gain"
        if stop.requested:
            session.save()
            return "interrupted"
    return "finished"


def _due(every: int, step: int) -> bool:
    return every > 0 and step % every == 0
