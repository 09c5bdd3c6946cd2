"""The loop: update, log, judge, tell, save, until the clock says so."""

from storylm.optim.schedule import learning_rate_factor
from storylm.training.judging import Stopped
from storylm.training.session import NotFinite, Session, is_due


def train_loop(session: Session) -> str:
    """Train until the end and say why it ended: "finished", "no gain", "diverged" or "interrupted"."""
    try:
        try:
            reason = _steps(session)
            if reason in ("finished", "no gain"):
                session.finish(reason)
        except Stopped:
            session.save()
            reason = "interrupted"
    except NotFinite:
        reason = "diverged"
    return reason


def _steps(session: Session) -> str:
    train, state = session.config.train, session.state
    if state.step and state.looked_at != state.step:
        session.look()  # the last process was stopped while it did
    while (progress := session.progress()) < 1.0:
        if train.patience is not None and state.without_gain >= train.patience:
            return "no gain"
        session.update(learning_rate_factor(session.config.optim, state.step, progress))
        if session.diverged:
            return "diverged"  # the last good checkpoint stays the last one
        if is_due(train.log_every, state.step):
            session.log()
        session.look()
    return "finished"
