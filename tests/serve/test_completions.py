"""What is answered to who asks for stories, held against what `generate` tells and the model finds likely."""

import json
import threading
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import pytest
import torch

from storylm.generation.engine import generate, tell
from storylm.generation.sampling import Sampling
from storylm.serve import answers, service

URL = "/v1/completions"


def ask(client, **fields) -> dict:
    answer = client.post(URL, json={"model": "qwen3", **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


def pieces(client, **fields) -> list[dict]:
    with client.stream("POST", URL, json={"model": "qwen3", "stream": True, **fields}) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_a_story_is_the_one_that_generate_tells(client, models, tokenizer):
    for name, model in models.items():
        for settings in ({"temperature": 0}, {"seed": 5}, {"seed": 6, "top_k": 9, "repetition_penalty": 1.2}):
            said = ask(client, model=name, prompt="Once", max_tokens=20, **settings)
            told = generate(model, tokenizer, "Once", max_new_tokens=20, **{"temperature": 1.0, **settings})
            assert "Once" + said["choices"][0]["text"] == told[0]
    assert (said["object"], said["model"], said["id"][:5]) == ("text_completion", "gpt_neo", "cmpl-")
    assert set(said) == {"id", "object", "created", "model", "choices", "usage"}


def test_without_a_seed_stories_differ_and_16_tokens_are_the_most(client):
    said = [ask(client, prompt="a")["choices"][0] for _ in range(5)]
    assert len({choice["text"] for choice in said}) > 1
    assert ask(client, prompt="a", temperature=0)["usage"]["completion_tokens"] <= 16


def test_several_prompts_and_stories_come_in_order(client, models, tokenizer):
    said = ask(client, prompt=["a", "bcd"], n=3, seed=7, max_tokens=9)
    told = generate(models["qwen3"], tokenizer, ["a", "bcd"], samples=3, seed=7, temperature=1.0, max_new_tokens=9)
    prompts = ["a"] * 3 + ["bcd"] * 3
    assert [prompt + choice["text"] for prompt, choice in zip(prompts, said["choices"], strict=True)] == told
    assert [choice["index"] for choice in said["choices"]] == list(range(6))
    stories = tell(
        models["qwen3"], tokenizer, ["a", "bcd"], Sampling(temperature=1.0), samples=3, seed=7, max_new_tokens=9
    )
    assert said["usage"]["completion_tokens"] == sum(story.tokens for story in stories)
    assert said["usage"]["prompt_tokens"] == 2 + 4  # each with its start token


def test_prompts_may_be_token_ids_with_or_without_the_start_token(client, tokenizer):
    ids = tokenizer.encode("abc")
    texts = [
        ask(client, prompt=prompt, seed=1)["choices"][0]["text"]
        for prompt in ("abc", ids, [tokenizer.start_id, *ids], [ids], ["abc"])
    ]
    assert len(set(texts)) == 1
    echoed = ask(client, prompt=ids, seed=1, echo=True)["choices"][0]["text"]
    assert echoed == "abc" + texts[0]


def test_likelihoods_are_the_models(client, models, tokenizer):
    """Of the prompt and of what is told, beside the likeliest in their place; temperature changes nothing."""
    settings = {"prompt": "abc", "max_tokens": 12, "echo": True, "logprobs": 4, "temperature": 0.5, "seed": 3}
    choice = ask(client, **settings)["choices"][0]
    told, ids = choice["logprobs"], [tokenizer.start_id, *choice["token_ids"]]
    with torch.inference_mode():
        logprobs = models["qwen3"](torch.tensor([ids]))[0, :, : tokenizer.vocab_size].log_softmax(-1)
    name, parts = tokenizer.pieces.name, 0
    for number, (own, others) in enumerate(zip(told["token_logprobs"], told["top_logprobs"], strict=True)):
        assert told["tokens"][number] == name(ids[number + 1])
        assert own == pytest.approx(float(logprobs[number, ids[number + 1]]), abs=1e-4)
        likeliest = logprobs[number].topk(4)
        expected = dict(zip(map(name, likeliest.indices.tolist()), likeliest.values.tolist(), strict=True))
        assert others == pytest.approx({**expected, told["tokens"][number]: own}, abs=1e-4)
        parts += sum(other.startswith("bytes:") for other in others)
    assert parts > 12  # several in one place, which were one U+FFFD
    assert told["tokens"][:3] == ["a", "b", "c"]
    assert told["text_offset"][:4] == [0, 1, 2, 3]


def test_offsets_are_those_of_characters_not_of_tokens(client, tokenizer):
    fields = {"prompt": "é“x”y", "max_tokens": 0, "echo": True, "logprobs": 0}
    told = ask(client, **fields)["choices"][0]["logprobs"]
    assert told["text_offset"] == [0, 0, 1, 1, 1, 2, 3, 3, 3, 4]
    assert told["tokens"][:3] == ["bytes:\\xc3", "bytes:\\xa9", "bytes:\\xe2"]
    ids = [*tokenizer.encode("é"), tokenizer.encode("“")[0]]  # ends within a character
    told = ask(client, **{**fields, "prompt": ids, "max_tokens": 20, "seed": 5})["choices"][0]
    for place, offset in enumerate(told["logprobs"]["text_offset"]):
        text = tokenizer.decode(told["token_ids"][: place + 1])
        assert text[:offset] == told["text"][:offset]
        assert offset <= len(told["text"])
    assert told["logprobs"]["text_offset"][:3] == [0, 0, 1]


def test_token_ids_are_of_the_tokens_that_are_named(client, tokenizer):
    echoed = ask(client, prompt="aé", seed=2, logprobs=1, echo=True)["choices"][0]
    told = ask(client, prompt="aé", seed=2, logprobs=1)["choices"][0]
    assert echoed["token_ids"] == tokenizer.encode("aé") + told["token_ids"]
    for choice in (echoed, told):
        assert [tokenizer.pieces.name(id) for id in choice["token_ids"]] == choice["logprobs"]["tokens"]
    assert told["logprobs"]["text_offset"][0] == 0
    assert "token_ids" not in ask(client, prompt="a", max_tokens=1)["choices"][0]


def test_what_harnesses_ask_for_no_new_tokens_but_likelihoods(client, models, tokenizer):
    ids = [tokenizer.start_id, *tokenizer.encode("abcd")]
    said = ask(client, prompt=[ids, ids[:3]], max_tokens=0, echo=True, logprobs=1, temperature=0)
    first, second = (choice["logprobs"] for choice in said["choices"])
    assert first["token_logprobs"][0] is None
    assert first["top_logprobs"][0] is None
    assert len(first["tokens"]) == 5
    assert second["token_logprobs"] == pytest.approx(first["token_logprobs"][:3], abs=1e-5, nan_ok=True)
    assert [choice["finish_reason"] for choice in said["choices"]] == ["length", "length"]
    assert said["choices"][0]["text"] == "abcd"
    assert ask(client, prompt="abcd", max_tokens=0)["choices"][0]["text"] == ""
    one = ask(client, prompt=[ids], max_tokens=1, echo=True, logprobs=1, temperature=0)["choices"][0]["logprobs"]
    assert len(one["tokens"]) == 6


@pytest.mark.parametrize("fields", [{}, {"echo": True}, {"logprobs": 2, "echo": True}, {"stop": ["\x00", "e"]}])
def test_a_stream_is_the_whole_in_pieces(client, fields):
    fields = {"prompt": ["ab", "c"], "n": 2, "seed": 4, "max_tokens": 15, **fields}
    whole = ask(client, **fields)
    said = pieces(client, **fields, stream_options={"include_usage": True})
    *said, usage = said
    assert usage["choices"] == []
    assert usage["usage"] == whole["usage"]
    assert len({piece["id"] for piece in said}) == 1
    for choice in whole["choices"]:
        own = [piece["choices"][0] for piece in said if piece["choices"][0]["index"] == choice["index"]]
        assert "".join(piece["text"] for piece in own) == choice["text"]
        assert [piece["finish_reason"] for piece in own[:-1]] == [None] * (len(own) - 1)
        assert own[-1]["finish_reason"] == choice["finish_reason"]
        if choice["logprobs"] is not None:
            assert [id for piece in own for id in piece["token_ids"]] == choice["token_ids"]
            for key, values in choice["logprobs"].items():
                joined = [value for piece in own for value in piece["logprobs"][key]]
                if key == "top_logprobs":
                    assert [list(each) for each in joined] == [list(each) for each in values]
                elif key == "token_logprobs":
                    assert joined == pytest.approx(values, abs=1e-5)
                else:
                    assert joined == values
        assert len(own) > 3


def test_why_it_ended(client, models, tokenizer):
    told = generate(models["qwen3"], tokenizer, "a", temperature=0, max_new_tokens=30)[0]
    assert ask(client, prompt="a", temperature=0, max_tokens=30, stop=told[4])["choices"][0] == {
        "index": 0,
        "text": told[1 : told.index(told[4], 1)],
        "logprobs": None,
        "finish_reason": "stop",
    }
    full = ask(client, prompt="x" * 40, temperature=0, max_tokens=500)
    reasons = (full["choices"][0]["finish_reason"], full["usage"]["completion_tokens"])
    assert reasons[0] == "stop" or reasons == ("length", 8)


def test_where_attention_goes(client, models, tokenizer):
    from storylm.generation.attention_maps import attention_maps

    answer = client.post("/v1/attention", json={"model": "gpt_neo", "prompt": "abcdef", "token": 4}).json()
    maps = attention_maps(models["gpt_neo"], [tokenizer.start_id, *tokenizer.encode("abcdef")])
    torch.testing.assert_close(torch.tensor(answer["weights"]), maps[:, :, 4], rtol=0, atol=1e-4)
    assert answer["tokens"] == ["<|endoftext|>", *"abcdef"]
    assert client.post("/v1/attention", json={"model": "qwen3", "prompt": "abc"}).json()["token"] == 3


def test_attention_says_which_characters_each_token_stands_for(client, tokenizer):
    """Of a text, of token ids, and of what was told after either, which a text cut anew would give other tokens."""

    def ask_attention(**fields) -> dict:
        answer = client.post("/v1/attention", json={"model": "qwen3", **fields})
        assert answer.status_code == 200, answer.text
        return answer.json()

    spans = [[0, 0], [0, 1], [0, 1], [1, 2], [1, 2], [1, 2], [2, 3], [3, 4], [3, 4], [3, 4], [4, 5]]
    ids = tokenizer.encode("é“x”y")
    whole = ask_attention(prompt="é“x”y")
    assert whole["spans"] == spans
    for number in (1, 4, 9):
        for prompt in (ids[:number], [tokenizer.start_id, *ids[:number]]):
            assert ask_attention(prompt=prompt, token_ids=ids[number:]) == whole
    assert ask_attention(prompt="é“", token_ids=ids[5:]) == whole
    assert ask_attention(prompt="", token_ids=ids) == whole
    too_long = client.post("/v1/attention", json={"model": "qwen3", "prompt": "a", "token_ids": [1] * 47})
    assert (too_long.status_code, too_long.json()["error"]["param"]) == (400, "prompt")


def test_attention_of_requests_at_once_is_of_each_alone(served, models):
    """Of two that are looked at at once, while the prompt of a third is scored."""
    client, prompts = served(), ["abcdef", "uvw"]

    def ask_attention(prompt: str) -> dict:
        answer = client.post("/v1/attention", json={"model": "gpt_neo", "prompt": prompt})
        assert answer.status_code == 200, answer.text
        return answer.json()

    alone = [ask_attention(prompt) for prompt in prompts]
    scored = {"model": "gpt_neo", "prompt": "xyzzy", "echo": True, "logprobs": 1, "max_tokens": 0}
    likely = ask(client, **scored)["choices"]
    both = threading.Barrier(2)

    def meet(*_: object) -> None:
        both.wait(timeout=20)

    hook = models["gpt_neo"].blocks[1].attention_norm.register_forward_pre_hook(meet)
    try:
        with ThreadPoolExecutor(3) as threads:
            echo = threads.submit(ask, client, **scored)
            assert list(threads.map(ask_attention, prompts)) == alone
            assert echo.result()["choices"] == likely
    finally:
        hook.remove()


def test_more_looks_than_a_server_bears_are_turned_away_and_stories_go_on(served, monkeypatch):
    client, go_on = served(), threading.Event()
    maps = service.attention_maps
    monkeypatch.setattr(service, "LOOKS", 3)
    monkeypatch.setattr(service, "attention_maps", lambda *given: go_on.wait(timeout=20) and maps(*given))
    body = {"model": "gpt_neo", "prompt": "abc"}
    with ThreadPoolExecutor(4) as threads:
        answers = [threads.submit(client.post, "/v1/attention", json=body) for _ in range(4)]
        (turned_away,) = wait(answers, timeout=20, return_when=FIRST_COMPLETED).done
        assert turned_away.result().status_code == 429
        assert "retry-after" in turned_away.result().headers
        assert ask(client, prompt="a", max_tokens=3)["usage"]["completion_tokens"] <= 3
        go_on.set()
    assert sorted(answer.result().status_code for answer in answers) == [200, 200, 200, 429]
    assert client.post("/v1/attention", json=body).status_code == 200


@pytest.mark.parametrize("fields", [{}, {"logprobs": 3}, {"logprobs": 0, "echo": True, "n": 2}])
def test_answers_are_as_the_openapi_description_has_them(client, fields):
    """To the field; schemathesis asks at random, and seldom for so much at once."""
    body = {"prompt": "é", "max_tokens": 5, **fields}
    answers.Completion.model_validate(ask(client, **body), strict=True)
    for piece in pieces(client, **body, stream_options={"include_usage": True}):
        answers.Completion.model_validate(piece, strict=True)
    attention = client.post("/v1/attention", json={"model": "qwen3", "prompt": "é"}).json()
    answers.Attention.model_validate(attention, strict=True)
    described = client.get("/openapi.json").json()["paths"]
    for path, operations in described.items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                assert all(content["schema"] for content in response["content"].values()), (path, status)
    assert list(described["/v1/completions"]["post"]["responses"]["200"]["content"])[1] == "text/event-stream"


def test_models_health_and_figures(client):
    models = client.get("/v1/models").json()["data"]
    assert [model["id"] for model in models] == ["qwen3", "gpt_neo"]
    assert models[0]["context"] == 48
    assert client.get("/health").json() == {"status": "ok"}
    ask(client, prompt="a", max_tokens=5, temperature=0)
    client.get("/nothing")
    figures = client.get("/metrics").text
    assert 'storylm_requests_total{path="/v1/completions",status="200"} 1.0' in figures
    assert 'storylm_requests_total{path="other",status="404"} 1.0' in figures
    assert "storylm_stories_running 0.0" in figures
    told = float(figures.split("\nstorylm_tokens_told ")[1].split()[0])
    assert 1 <= told <= 5


def test_the_openai_package_understands_it(client):
    from openai import NotFoundError, OpenAI

    openai = OpenAI(base_url="http://localhost/v1", api_key="none", http_client=client, max_retries=0)
    assert [model.id for model in openai.models.list()] == ["qwen3", "gpt_neo"]
    said = openai.completions.create(model="qwen3", prompt="abc", max_tokens=6, seed=1, logprobs=2)
    assert len(said.choices[0].logprobs.tokens) == said.usage.completion_tokens
    stream = openai.completions.create(model="qwen3", prompt="abc", max_tokens=6, seed=1, stream=True)
    assert "".join(piece.choices[0].text for piece in stream) == said.choices[0].text
    with pytest.raises(NotFoundError, match="no model 'none'"):
        openai.completions.create(model="none", prompt="a")
