"""The loop: update, log, tell, judge, save, until the clock says so."""

from storylm.optim.schedule import learning_rate_factor
from storylm.training.session import Session
from storylm.training.signals import StopSignal


def train_loop(session: Session, stop: StopSignal) -> str:
    """Train until the end and say why it ended: "finished", "no gain", "diverged" or "interrupted"."""
    train, state = session.config.train, session.state
    factor, reason = 0.0, "finished"
    while (progress := session.clock.progress(state.step)) < 1.0:
        factor = learning_rate_factor(session.config.optim, state.step, progress)
        session.update(factor)
        if state.bad_in_a_row >= train.max_bad_steps:
            return "diverged"  # the last good checkpoint stays the last one
        if _due(train.log_every, state.step):
            session.log(factor)
        if _due(train.sample_every, state.step):
            session.sample()
        best = _due(train.eval_every, state.step) and session.evaluate()
        if best or session.save_due():
            session.save(best)
        if train.patience is not None and state.without_gain >= train.patience:
            reason = "no gain"
            break
        if stop.requested:
            session.save()
            return "interrupted"
    session.state.ended = reason
    session.finish(factor)
    return reason


def _due(every: int, step: int) -> bool:
    return every > 0 and step % every == 0
