"""docs/scaling.md: what docs/communication.py computes is what DDP really sends."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.distributed as dist

from storylm.config.load import preset, preset_names
from storylm.config.model import ModelConfig
from storylm.model.count import flops_per_token, parameters
from storylm.model.transformer import Transformer
from storylm.training.parallel import Copies

ROOT = Path(__file__).parents[2]
MODEL = ModelConfig(family="qwen3", vocab_size=320, context=48, layers=3, width=32, heads=4, kv_heads=2, ff_width=56)


@pytest.fixture(scope="module")
def paper() -> ModuleType:
    spec = importlib.util.spec_from_file_location("communication", ROOT / "docs" / "communication.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["communication"] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


def test_ddp_hands_on_four_bytes_of_every_weight_once_a_step(paper: ModuleType, tmp_path: Path) -> None:
    """Whatever the number of passes: they meet in the last one."""
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        model = Transformer(MODEL).initialise(torch.Generator().manual_seed(0))
        copies = Copies(_Loss(model), model)
        handed: list[int] = []

        def count(state: None, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
            handed.append(bucket.buffer().nbytes)
            done: torch.futures.Future = torch.futures.Future()
            done.set_result(bucket.buffer())
            return done

        copies.module.register_comm_hook(None, count)
        for last in (False, False, True):
            with copies.accumulating(last):
                copies(torch.randint(320, (2, 48)), None, None, None).backward()
    finally:
        dist.destroy_process_group()
    assert sum(handed) == 4 * parameters(MODEL)
    assert paper.ddp_bytes(parameters(MODEL), 2) == sum(handed)  # of two, each sends half and passes half on


class _Loss(torch.nn.Module):
    def __init__(self, model: Transformer):
        super().__init__()
        self.model = model

    def forward(self, tokens_BT: torch.Tensor, *rest: torch.Tensor | None) -> torch.Tensor:
        return (self.model.hidden(tokens_BT) @ self.model.head_weight.T).sum()


SENDER = """
import json, sys
from pathlib import Path
import torch
import torch.distributed as dist

rank, size, store = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
dist.init_process_group("gloo", store=dist.FileStore(store, size), rank=rank, world_size=size)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(1500, 800, bias=False))

def written():  # by this process, to sockets too
    return int(Path("/proc/self/io").read_text().split("wchar: ")[1].split()[0])

sent = []
for step in range(3):
    loss = model(torch.ones(1, 1500)).sum()
    dist.barrier()
    before = written()
    loss.backward()
    sent.append(written() - before)
print(json.dumps(sent[1:]))  # the first step also sends in what order buckets are
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="only Linux counts what a process writes")
@pytest.mark.parametrize("size", [2, 3])
def test_a_ring_sends_what_the_formula_says(paper: ModuleType, tmp_path: Path, size: int) -> None:
    command = [sys.executable, "-c", SENDER]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen([*command, str(rank), str(size), tmp_path / "store"], stdout=subprocess.PIPE, env=environment)
        for rank in range(size)
    ]
    for rank in ranks:
        for sent in json.loads(rank.communicate(timeout=300)[0]):
            assert sent == pytest.approx(paper.ddp_bytes(1500 * 800, size), rel=1e-3)


def test_fsdp_gathers_blocks_twice_and_the_rest_once(paper: ModuleType) -> None:
    weights = parameters(MODEL)
    rest = weights - sum(p.numel() for p in Transformer(MODEL).blocks.parameters())
    assert paper.fsdp_bytes(MODEL, 4) == 0.75 * 4 * (2 * (weights - rest) + rest + weights)
    assert paper.fsdp_bytes(MODEL, 4, passes=3) == 0.75 * 4 * (3 * (2 * (weights - rest) + rest) + weights)


def test_embeddings_are_counted_without_the_head(paper: ModuleType) -> None:
    for name in ("gpt2-33m", "story-5m", "mistral-40m"):
        config = preset(name).model
        with torch.device("meta"):
            named = dict(Transformer(config).named_parameters())
        head = config.vocab_size * config.width
        found = sum(weight.numel() for key, weight in named.items() if "blocks" not in key and weight.ndim == 2)
        assert paper.tables(config) == found - (0 if config.tied else head)


def test_presets_with_a_head_width_that_vllm_lacks_are_named(paper: ModuleType) -> None:
    text = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    widths = {int(width) for width in re.findall(r"\d+", text.partition("kernels for: ")[2].partition(".")[0])}
    models = {name: preset(name).model for name in preset_names()}
    others = {f"`{name}` ({m.head_dim})" for name, m in models.items() if m.head_dim not in widths}
    named = set(re.findall(r"`[\w-]+` \(\d+\)", text))
    assert named == {each for each in others if models[each.split("`")[1]].family != "gpt_neo"}


def test_where_nothing_has_to_travel_every_gpu_computes_all_the_time(paper: ModuleType, monkeypatch) -> None:
    monkeypatch.setattr(paper, "LATENCY", 0.0)
    endless = paper.Link("endless", 1e30)
    monkeypatch.setattr(paper, "NVLINK", endless)
    assert paper.efficiency(MODEL, 1000, 8, endless) == pytest.approx(1.0)


def test_from_the_tokens_named_ninety_percent_is_reached_and_not_before(paper: ModuleType) -> None:
    for name in ("xs-3m", "story-33m", "llama2c-110m"):
        config = preset(name).model
        for link in paper.LINKS[1:]:
            tokens = paper.hidden_from(config, link)
            assert paper.efficiency(config, tokens, 16, link) >= 0.9
            assert paper.efficiency(config, tokens - 1000, 16, link) < 0.9


def test_without_overlap_the_time_is_that_of_the_parts(paper: ModuleType) -> None:
    """Worked by hand: gpt2-33m, two GPUs of one node, 1,000 tokens: less computing than there is to send."""
    config = preset("gpt2-33m").model
    computing = 1000 * flops_per_token(config) / 316e12
    # 120.6 MB, half of it twice, in 5 pieces of two hops of 10 microseconds
    travelling = 4 * 30_142_848 / (0.8 * 450e9) + 5 * 2 * 10e-6
    exposed = max(travelling - computing * 2 / 3, 4 * (50_257 + 512) * 384 / (0.8 * 450e9) + 3 * 2 * 10e-6)
    assert paper.efficiency(config, 1000, 2, paper.NVLINK) == pytest.approx(computing / (computing + exposed))
