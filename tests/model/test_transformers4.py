"""What `test_parity.py` asks of transformers 5, asked of version 4.57: one process for all models."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model import transformers4
from model.conftest import TEXTS
from model.model_zoo import ENLARGED, TOLERANCE, ZOO, random_model, random_tokens, same_weights, tokenizer_model
from storylm.model.store import load, save


def test_transformers_4_loads_what_we_save_and_back(tokenizers: Any, tmp_path: Path) -> None:
    models = {
        f"{name}-{scale}": random_model(config, scale) for name, config in ZOO.items() for scale in (1.0, ENLARGED)
    }
    for name, model in models.items():
        save(model, None, tmp_path / name)
    for name, (family, tokenizer) in tokenizers.items():
        models[name] = tokenizer_model(family, tokenizer)
        save(models[name], tokenizer, tmp_path / name)
        (tmp_path / name / "texts.json").write_text(json.dumps(TEXTS), encoding="utf-8")
    for name, model in models.items():
        np.save(tmp_path / name / "tokens.npy", random_tokens(model.config).numpy())

    transformers4.run(tmp_path)

    for name, model in models.items():
        with torch.no_grad():
            ours = model(random_tokens(model.config))
        theirs = torch.from_numpy(np.load(tmp_path / name / "logits.npy"))
        torch.testing.assert_close(ours, theirs, **TOLERANCE, msg=lambda text, name=name: f"{name}: {text}")
        again, _ = load(tmp_path / name / "again")
        assert again.config == model.config, name
        assert same_weights(again, model), name
    for name, (_, tokenizer) in tokenizers.items():
        answer = json.loads((tmp_path / name / "ids.json").read_text(encoding="utf-8"))
        assert (answer["bos"], answer["eos"]) == (tokenizer.start_id, tokenizer.end_id), name
        assert answer["ids"] == [tokenizer.encode(text) for text in TEXTS], name
        assert answer["texts"] == [tokenizer.decode(ids) for ids in answer["ids"]], name
        _, again = load(tmp_path / name / "again")
        assert again is not None
        assert (again.start_id, again.end_id) == (tokenizer.start_id, tokenizer.end_id), name
        assert [again.encode(text) for text in TEXTS] == answer["ids"], name
