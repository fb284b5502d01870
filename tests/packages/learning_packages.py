"""Uses of packages that train and run models."""

from __future__ import annotations

from pathlib import Path


def use_torch(folder: Path) -> None:
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
    inputs = torch.randn(64, 4)
    wanted = inputs.sum(dim=1, keepdim=True)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = torch.nn.functional.mse_loss(model(inputs), wanted)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 4
    scripted = torch.jit.script(torch.nn.Linear(3, 2))
    scripted.save(str(folder / "module.pt"))
    assert torch.jit.load(str(folder / "module.pt"))(torch.ones(1, 3)).shape == (1, 2)
    assert torch.func.vmap(torch.dot)(torch.ones(5, 3), torch.ones(5, 3)).tolist() == [3.0] * 5
    loader = torch.utils.data.DataLoader(range(10), batch_size=4)
    assert [len(batch) for batch in loader] == [4, 4, 2]


def use_torch_compile(folder: Path) -> None:
    import os

    # Without a cache of its own, the second to compile would find the work of the first.
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
    import torch

    torch._dynamo.reset()
    compiled = torch.compile(lambda x, y: torch.sin(x) @ y + x.sum())
    inputs = torch.randn(30, 30), torch.randn(30, 30)
    expected = torch.sin(inputs[0]) @ inputs[1] + inputs[0].sum()
    assert torch.allclose(compiled(*inputs), expected, atol=1e-4)


def use_load_inline(folder: Path) -> None:
    import torch
    from torch.utils.cpp_extension import load_inline

    module = load_inline(
        name="inline_sum",
        cpp_sources="""
            double total(torch::Tensor x) { return x.sum().item<double>(); }
            torch::Tensor check(torch::Tensor x) { TORCH_CHECK(x.dim() == 1, "one dimension"); return x * 2; }
        """,
        functions=["total", "check"],
        build_directory=str(folder),
        extra_cflags=["-O0"],
    )
    assert module.total(torch.ones(7)) == 7
    assert module.check(torch.ones(2)).tolist() == [2, 2]
    try:
        module.check(torch.ones(2, 2))
    except RuntimeError as error:
        assert "one dimension" in str(error)
    else:
        raise AssertionError("an exception of C++ was lost")


def use_transformers(folder: Path) -> None:
    import torch
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
    )
    model = BertModel(config).eval()
    tokens = torch.arange(12).reshape(2, 6)
    with torch.inference_mode():
        expected = model(tokens).last_hidden_state
        model.save_pretrained(folder)
        again = BertModel.from_pretrained(folder).eval()(tokens).last_hidden_state
    assert expected.shape == (2, 6, 32) and torch.allclose(expected, again, atol=1e-6)


def use_tokenizers(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="[?]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=60, special_tokens=["[?]"], show_progress=False)
    tokenizer.train_from_iterator(["the cat sat", "the mat sat on the cat"] * 20, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    again = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert again.encode("the cat").tokens == ["the", "cat"]


def use_sentencepiece(folder: Path) -> None:
    import io

    import sentencepiece

    text = iter(["the cat sat on the mat", "a dog ate the log", "cats and dogs"] * 30)
    stored = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=text, model_writer=stored, vocab_size=40, hard_vocab_limit=False, minloglevel=2
    )
    model = sentencepiece.SentencePieceProcessor(model_proto=stored.getvalue())
    assert model.decode(model.encode("the cat")) == "the cat"


def use_tiktoken(folder: Path) -> None:
    import tiktoken

    ranks = {bytes([byte]): byte for byte in range(256)} | {b"th": 256, b"the": 257}
    encoding = tiktoken.Encoding("x", pat_str=r"\w+|\s", mergeable_ranks=ranks, special_tokens={"<end>": 300})
    assert encoding.encode("the <end>", allowed_special="all") == [257, 32, 300]
    assert encoding.decode_batch(encoding.encode_batch(["the", "ü"])) == ["the", "ü"]


def use_safetensors(folder: Path) -> None:
    import torch
    from safetensors import safe_open
    from safetensors.torch import load, save, save_file

    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(3, dtype=torch.bfloat16)}
    save_file(tensors, folder / "model.safetensors")
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        assert torch.equal(file.get_slice("a")[1:], tensors["a"][1:])
        assert file.get_tensor("b").dtype == torch.bfloat16
    assert torch.equal(load(save(tensors))["a"], tensors["a"])


def use_onnxruntime(folder: Path) -> None:
    import numpy
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(_doubling_model(), options, providers=["CPUExecutionProvider"])
    values = numpy.arange(4, dtype=numpy.float32)
    (doubled,) = session.run(None, {"x": values})
    assert (doubled == 2 * values).all()


def _doubling_model() -> bytes:
    """Return the ONNX model `y = x + x` of four floats, written by hand to do without the onnx package."""

    def field(number: int, content: bytes | int) -> bytes:
        if isinstance(content, int):
            return bytes([number << 3, content])
        return bytes([number << 3 | 2, len(content)]) + content

    shape = field(1, field(1, 4))
    kind = field(1, field(1, 1) + field(2, shape))  # TypeProto.tensor_type: float, shape
    node = field(1, b"x") + field(1, b"x") + field(2, b"y") + field(4, b"Add")
    graph = field(1, node) + field(2, b"g")
    graph += field(11, field(1, b"x") + field(2, kind)) + field(12, field(1, b"y") + field(2, kind))
    return field(1, 8) + field(7, graph) + field(8, field(1, b"") + field(2, 13))


def use_scikit_learn(folder: Path) -> None:
    import numpy
    from sklearn.cluster import KMeans
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    inputs = numpy.random.default_rng(0).random((200, 4))
    wanted = inputs[:, 0] > 0.5
    for model in (LogisticRegression(C=100), RandomForestClassifier(10, random_state=0, n_jobs=2)):
        assert model.fit(inputs, wanted).score(inputs, wanted) > 0.9
    assert len(KMeans(3, n_init=2, random_state=0).fit(inputs).cluster_centers_) == 3


def use_xgboost(folder: Path) -> None:
    import numpy
    import xgboost

    inputs = numpy.random.default_rng(0).random((300, 3))
    wanted = inputs[:, 0] * 2
    data = xgboost.DMatrix(inputs, wanted)
    model = xgboost.train({"nthread": 2, "max_depth": 4}, data, num_boost_round=20)
    assert abs(model.predict(data) - wanted).mean() < 0.1
    model.save_model(folder / "model.json")


def use_lightgbm(folder: Path) -> None:
    import lightgbm
    import numpy

    inputs = numpy.random.default_rng(0).random((300, 3))
    wanted = inputs[:, 0] * 2
    options = {"verbose": -1, "num_threads": 2, "learning_rate": 0.3}
    model = lightgbm.train(options, lightgbm.Dataset(inputs, wanted), num_boost_round=20)
    assert abs(model.predict(inputs) - wanted).mean() < 0.1
