"""Run by `transformers4.run`, where `transformers` is 4.57: load every model folder of FOLDER and leave in it

logits.npy   of tokens.npy, which the test put there
again/       what save_pretrained of this version writes
ids.json     what AutoTokenizer makes of texts.json, and their text again, where the folder has a tokenizer
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

assert transformers.__version__.startswith("4.57."), transformers.__version__
torch.set_grad_enabled(False)
for folder in sorted(path for path in Path(sys.argv[1]).iterdir() if (path / "config.json").exists()):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert type(model).__name__ == model.config.architectures[0], type(model)
    assert model.dtype == torch.float32
    assert not any(info.values()), (folder, info)
    logits = model(torch.from_numpy(np.load(folder / "tokens.npy"))).logits
    np.save(folder / "logits.npy", logits.numpy())
    model.save_pretrained(folder / "again")
    if (folder / "tokenizer.json").exists():
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        tokenizer.save_pretrained(folder / "again")
        texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
        ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        answer = {
            "ids": ids,
            "texts": [tokenizer.decode(some) for some in ids],
            "bos": tokenizer.bos_token_id,
            "eos": tokenizer.eos_token_id,
        }
        (folder / "ids.json").write_text(json.dumps(answer), encoding="utf-8")
