"""What every settings object shares: frozen, strict, and helpful about typos."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A frozen group of settings. Unknown keys are refused; `config.load` turns that into "did you mean"."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)
