"""The loop: update, log, judge, tell, save, until the clock says so."""

from storylm.optim.schedule import learning_rate_factor
from storylm.training.session import Session, Stopped, is_due


def train_loop(session: Session) -> str:
    """Train until the end and say why it ended: "finished", "no gain", "diverged" or "interrupted"."""
    try:
        reason = _steps(session)
        if reason in ("finished", "no gain"):
            session.finish(reason)
    except Stopped:
        reason = "interrupted"
    if reason == "interrupted":
        session.save()
    return reason


def _steps(session: Session) -> str:
    train, state = session.config.train, session.state
    if state.step and state.looked_at != state.step:
        session.look()  # the last process was stopped while it did
    while (progress := session.clock.progress(state.step)) < 1.0:
        if train.patience is not None and state.without_gain >= train.patience:
            return "no gain"
        session.update(learning_rate_factor(session.config.optim, state.step, progress))
        if state.bad_in_a_row >= train.max_bad_steps:
            return "diverged"  # the last good checkpoint stays the last one
        if is_due(train.log_every, state.step):
            session.log()
        session.look()
        if session.stop.requested:
            return "interrupted"
    return "finished"
