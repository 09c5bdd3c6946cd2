"""A fingerprint is of predictions: the same wherever a model lies, another with any weight or setting that matters."""

import torch

from model.model_zoo import random_model
from storylm.config.model import ModelConfig
from storylm.model.fingerprint import fingerprint
from storylm.model.store import load, save

CONFIG = ModelConfig(family="mistral", vocab_size=40, context=20, layers=2, width=24, heads=3, windows=(8,))


def test_a_model_saved_and_loaded_is_the_same(tmp_path) -> None:
    model = random_model(CONFIG)
    save(model, None, tmp_path / "model")
    assert fingerprint(load(tmp_path / "model")[0]) == fingerprint(model) == fingerprint(random_model(CONFIG))


def test_any_weight_and_any_setting_of_predictions_matters() -> None:
    model = random_model(CONFIG)
    found = {fingerprint(model), fingerprint(random_model(CONFIG, seed=1))}
    for change in ({"windows": (9,)}, {"rope_theta": 9.0}, {"norm_eps": 1e-3}):
        found.add(fingerprint(random_model(CONFIG.model_copy(update=change))))
    with torch.no_grad():
        model.head_weight[3, 5] += 1e-6
    assert len(found | {fingerprint(model)}) == 6


def test_how_training_began_does_not() -> None:
    for change in ({"dropout": 0.3}, {"init_std": 0.5}, {"init_outputs": "zero"}):
        other = random_model(CONFIG.model_copy(update=change))
        other.load_state_dict(random_model(CONFIG).state_dict())
        assert fingerprint(other) == fingerprint(random_model(CONFIG))
