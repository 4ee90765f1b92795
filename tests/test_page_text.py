"""Texts become in the page what wagi_rt makes of them: the same numbers, the same step, the same refusals.

Needs Chromium, and nothing else: each module is run by itself in an empty page.
"""

import gzip
import json
import shutil
from collections import Counter

import browser
import numpy as np
import pytest
from test_page import RUNTIME, packed
from test_page_arithmetic import blank, evaluated, unpacked  # noqa: F401

from wagi_rt import manifest as manifests
from wagi_rt import worded
from wagi_rt.commands import page
from wagi_rt.errors import UserError
from wagi_rt.texts import BytePairs, Words, read_merges

needs_chromium = pytest.mark.skipif(browser.binary() is None, reason="Chromium is not installed")
EMBEDDED = manifests.embedded()
VOCABULARY = (EMBEDDED / "words.txt").read_text().split()
# What a reader makes of each text, or what it says.
READ = """
const read = it.reader(facts, merges);
const tried = (text) => { try { return [...read(text)]; } catch (error) { return error.message; } };
return JSON.stringify(texts.map(tried));
"""


def tried(read, text: str) -> list[int] | str:
    try:
        return [int(number) for number in read(text)]
    except UserError as error:
        return str(error)


@needs_chromium
def test_words_are_the_runtimes(blank):  # noqa: F811
    texts = [
        "A smiling MAN, with round glasses", "a  man's_hat", "a hat " * 20, "...", "", "smilling", "rouund",
        "greyy hair", "hair-band", "Ünder", "blonde", "glases", "lit lite litt", "and " * 31,
    ]  # fmt: skip
    facts = {"words": VOCABULARY, "context": 32}
    found = json.loads(str(evaluated(blank, "texts", READ, facts=facts, merges=None, texts=texts)))
    wanted = [tried(Words(VOCABULARY, 32), text) for text in texts]
    every, shown = f"it knows {', '.join(VOCABULARY)}", "it knows those below"
    assert found == [one.replace(every, shown) if isinstance(one, str) else one for one in wanted]
    for said, least in (("did you mean", 4), (shown, 1), ("has no words", 2), ("in fewer words", 1)):
        assert sum(said in str(one) for one in found) >= least, said


def merges(text: str, count: int) -> list[tuple[str, str]]:
    """The most frequent pairs of a text's words, one after the other."""
    words = [[*word[:-1], f"{word[-1]}</w>"] for word in text.split()]
    found = []
    for _ in range(count):
        pairs = Counter(pair for word in words for pair in zip(word, word[1:], strict=False))
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        found.append(best)
        for word in words:
            for i in range(len(word) - 1, 0, -1):
                if tuple(word[i - 1 : i + 1]) == best:
                    word[i - 1 : i + 1] = ["".join(best)]
    return found


@needs_chromium
def test_byte_pairs_are_the_runtimes(blank):  # noqa: F811
    corpus = "a man with a hat and a woman with hats had the hat that the men and women had on manhattan "
    pairs = merges(f"{corpus} aaaa aaaa aaa", 24)
    texts = [
        "A MAN with a hat", "isn't he the man's? We've 2 hats, don't we'll", "aaaaaaa aa a", "", "x_y __ z",
        "&lt;the&gt; AT&amp;amp;T &eacute;&notit; <b>hat</b> & so", " \ufeffhat\u00a0\u2003cap\x1c\x85 ",
        "na\u00efve cafe\u0301 \u0130\u03a3\u03a3", "\u4e00\u4e8c \u0661\u0662 \u00b2\u00bd\u2167 7up",
        "\U0001f600\U0001f600!?", "the man and the women " * 30,
    ]  # fmt: skip
    lines = [" ".join(pair) for pair in pairs]
    given = {"facts": {"context": 77}, "merges": lines, "texts": texts}
    found = json.loads(str(evaluated(blank, "texts", READ, **given)))
    assert found == [tried(BytePairs(pairs, 77), text) for text in texts]
    assert max(len(set(one)) for one in found if isinstance(one, list)) > 10


@needs_chromium
@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("effect", [1, 50])
def test_steps_are_the_runtimes(blank, threshold, effect, tmp_path):  # noqa: F811
    """Of the embedded model, and of one whose styles do so much that the step is limited."""
    table = np.load(EMBEDDED / "relevance.npy")
    table[:, 1:] *= effect
    np.save(tmp_path / "relevance.npy", table)
    shutil.copy(EMBEDDED / "words.txt", tmp_path)
    manifest = manifests.read()._replace(folder=tmp_path)
    features = np.random.default_rng(4).normal(0, 1, (2, 64)).astype(np.float32)
    texts = worded.Texts(manifest, lambda *_: {"features": features})
    made = texts.direction("a hat", threshold=threshold)
    facts = {**page.describe_text(manifests.read())[0], "threshold": threshold}
    moved = table[:, 0] > 0
    most = np.abs(made.vector[moved] / table[moved, 0]).max()
    assert np.isclose(most, facts["most"]) == (effect == 50)
    script = "return text(it.offsets(floats(features), floats(table), facts, ['a', 'b']));"
    found = evaluated(blank, "worded", script, features=features, table=table, facts=facts)
    atol = 1e-6 * np.abs(made.vector).max()  # the runtime takes a length in single precision
    np.testing.assert_allclose(unpacked(found, "f4", made.vector.shape), made.vector, rtol=1e-6, atol=atol)


@needs_chromium
def test_texts_that_mean_the_same_are_refused_in_the_runtimes_words(blank):  # noqa: F811
    features = np.ones((2, 64), np.float32)
    script = """
        try { it.offsets(floats(features), floats(features), { threshold: 0 }, ['a hat', 'a cap']); }
        catch (error) { return error.message; }
    """
    with pytest.raises(UserError) as wanted:
        worded.Texts(manifests.read(), lambda *_: {"features": features}).direction("a hat", "a cap")
    assert evaluated(blank, "worded", script, features=features) == str(wanted.value)


def described(text: str) -> tuple[dict, dict[str, bytes]]:
    """What a page knows about its bundle, and its files."""
    model = json.loads(text.split('id="model">', 1)[1].split("</script>", 1)[0])
    return model, {name: gzip.decompress(content) for name, content in packed(text, "file").items()}


def test_the_text_model_is_in_the_page():
    manifest = manifests.read()
    model, files = described(page.assemble(manifest, RUNTIME))
    text = model["text"]
    assert text["words"] == VOCABULARY and text["context"] == 32
    assert model["latents"] == list(manifest.latents)
    graph = text["graphs"]["text"]
    assert files[graph["file"]] == (EMBEDDED / "text.onnx").read_bytes()
    assert set(graph["external"]) <= set(files)
    table = np.frombuffer(files[text["table"]], "<f4").reshape(manifest.styles, -1)
    assert np.array_equal(table, np.load(EMBEDDED / "relevance.npy"))
    assert "text" not in model["graphs"]  # which WebGPU opens too


def test_the_merges_of_a_clip_are_in_the_page(tmp_path):
    """From the public file's layout, which has a heading, packed or not."""
    bundle = shutil.copytree(EMBEDDED, tmp_path / "bundle")
    lines = gzip.compress(b"#version: 0.2\nl o\nlo w</w>\n")
    (bundle / "bpe.txt.gz").write_bytes(lines)
    manifest = manifests.read()
    text = manifest.text._replace(tokens="pairs", vocabulary="bpe.txt.gz", context=77)
    facts, files = page.describe_text(manifest._replace(folder=bundle, text=text))
    assert "words" not in facts
    found = [tuple(line.split(" ")) for line in files[facts["merges"]].decode().split("\n")]
    assert found == read_merges(bundle / "bpe.txt.gz")
