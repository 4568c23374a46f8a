import pytest

from ablations.errors import DataError
from ablations.naming.config import Data
from ablations.naming.corpora import SPLITS, Corpus
from ablations.naming.extraction import Source, extract_all
from ablations.naming.samples import MASK, make_samples


def samples_of(train="def t(): return 0", validation="def v(): return 1", test="def w(): return 2", **options):
    """Samples of one Python text a split."""
    texts = {"train": train, "validation": validation, "test": test}
    sources = [Source(f"{split}.py", split, text=text, split=split) for split, text in texts.items()]
    table = extract_all(sources, options.pop("language", "python"), lambda message: None)
    corpus = Corpus("python", 0, lambda: sources, known=options.pop("known", {}))
    return make_samples(table, sources, corpus, Data(**options))


def codes(text, **options):
    return samples_of(train=text, **options).splits["train"].codes


def test_the_name_is_masked_and_its_words_are_the_target():
    train = samples_of("def getHTTPServer2(port):\n    return port").splits["train"]
    assert train.codes == [f"def {MASK}(port):\n    return port"]
    assert train.targets == ["get http server"]
    assert train.ids == ["train.py:1:0"]


def test_names_without_words_are_dropped_and_counted():
    assert samples_of("def _(): pass\ndef __(): pass\ndef f(): pass").facts["dropped"] == {"no word in its name": 2}


MANY = "\n".join(f"def g{chr(97 + index)}(): return {index // 26}" for index in range(26) for _ in range(3)) + (
    "\ndef ha(): pass\ndef hb(): pass"
)  # 80 functions
FACT = "def fact(n):\n    'fact'\n    return n * fact(n - 1) + factor.fact2"


def test_the_own_name_is_kept_masked_or_a_reason_to_drop_the_function():
    assert codes(FACT) == [f"def {MASK}(n):\n    'fact'\n    return n * fact(n - 1) + factor.fact2"]
    assert codes(FACT, recursive_calls="mask") == [
        f"def {MASK}(n):\n    '{MASK}'\n    return n * {MASK}(n - 1) + factor.fact2"
    ]
    dropped = samples_of(f"{FACT}\ndef other(): return 1", recursive_calls="drop")
    assert (dropped.facts["dropped"], dropped.splits["train"].targets) == ({"own name in its body": 1}, ["other"])


def test_the_share_of_functions_that_hold_their_own_name_is_counted_whatever_the_option():
    for option in ("keep", "mask"):
        assert samples_of(FACT, recursive_calls=option).facts["own_name_share"] == pytest.approx(1 / 3)


def test_docstrings_and_comments_vanish_on_request():
    text = 'def f(a):  # note\n    """Doc.\n\n    More."""\n    # only this\n    return "# kept", a\n'
    assert codes(text, docstrings=False) == [f'def {MASK}(a):\n    return "# kept", a']
    assert codes(text) == [text.strip().replace("f(", f"{MASK}(", 1)]


def test_comments_before_a_java_name_do_not_move_the_mask():
    text = "class A { @Override /* f */ int f(int a) { return a; // end\n } }"
    train = samples_of(text, text.replace("a;", "b;"), text.replace("a;", "c;"), language="java", docstrings=False)
    assert train.splits["train"].codes == [f"@Override   int {MASK}(int a) {{ return a;\n }}"]


@pytest.mark.parametrize(
    ("option", "dropped", "kept"),
    [
        ("abstract_methods", {"abstract": 1}, ["nothing", "second", "full", "init"]),
        ("empty_bodies", {"empty body": 2}, ["second", "full", "init"]),
        ("overrides", {"override": 1}, ["first", "nothing", "full", "init"]),
        ("special_methods", {"special method": 1}, ["first", "nothing", "second", "full"]),
    ],
)
def test_functions_are_dropped_for_what_they_are(option, dropped, kept):
    text = (
        "@abstractmethod\ndef first(): ...\ndef nothing(): pass\n@override\ndef second(): return 2\n"
        "def full(): return 3\ndef __init__(self): self.a = 4"
    )
    made = samples_of(text, **{option: False})
    assert (made.facts["dropped"], made.splits["train"].targets) == (dropped, kept)


def test_all_functions_of_a_deep_file_are_lost_on_request_as_the_original_lost_them():
    text = f"def deep(): return {' + '.join('1' * 1100)}\ndef beside(): return 0\n"
    assert samples_of(text).splits["train"].targets == ["deep", "beside"]
    with pytest.raises(DataError, match=r"none of them is left for train; left out: \{'deep file': 2\}"):
        samples_of(text, deep_files=False)
    other = samples_of(train="def t(): return 0", test=f"{text}def w(): return 2", deep_files=False, drop_from="train")
    assert other.splits["test"].targets == ["deep", "beside", "w"]


@pytest.mark.parametrize("option", [{"empty_bodies": False}, {"recursive_calls": "drop"}])
def test_what_only_the_training_split_loses_changes_nothing_that_is_scored(option):
    text = "def empty(): pass\ndef fact(n): return fact(n - 1)\ndef full(): return 3\n"
    seen = text + "def empty_too(): pass\ndef fold(n): return fold(n - 2)\ndef f(): return 4\n"
    test = text + "def empty_three(): pass\ndef unfold(n): return unfold(n - 3)\ndef g(): return 5\n"
    baseline = samples_of(text, seen, test)
    everywhere = samples_of(text, seen, test, **option)
    train_alone = samples_of(text, seen, test, drop_from="train", **option)
    assert train_alone.splits["train"].targets == everywhere.splits["train"].targets != baseline.splits["train"].targets
    for split in ("validation", "test"):
        assert train_alone.splits[split] == baseline.splits[split]
    assert train_alone.facts["scored"] == baseline.facts["scored"] != everywhere.facts["scored"]


def test_masking_the_own_name_changes_what_is_shown_and_not_which_functions_are_scored():
    text = "def fact(n): return fact(n - 1)\ndef full(): return 3\n"
    test = text + "def f(): return f()\ndef f(): return ff()\n"
    keep, mask = (samples_of(text, "def g(): return g()", test, recursive_calls=option) for option in ("keep", "mask"))
    assert keep.splits["test"].codes != mask.splits["test"].codes
    assert keep.facts["scored"] == mask.facts["scored"]


def test_duplicates_are_dropped_across_splits_and_files_training_first():
    text = "def same(a):\n    return a\n"
    again = "class B:\n    def same(a):\n        return a\n\n    def other(a):\n        return a\n"
    made = samples_of(text + again, text + "def v(): pass", again + "def w(): pass")
    assert {split: each.targets for split, each in made.splits.items()} == {
        "train": ["same", "other"],
        "validation": ["v"],
        "test": ["w"],
    }
    assert made.facts["dropped"] == {"duplicate": 4}
    kept = samples_of(text + again, text, again, drop_duplicates=False)
    assert kept.facts["counts"] == {"train": 3, "validation": 1, "test": 2}


def test_a_smaller_cap_is_a_subset_of_a_larger_one_in_the_same_order():
    text = "\n".join(f"def f{chr(97 + index)}(): return {index}" for index in range(20))
    ten, five = (samples_of(text, train_samples=most) for most in (10, 5))
    assert five.facts["counts"]["train"] == 5
    assert five.facts["dropped"] == {"over the cap": 15}
    positions = [ten.splits["train"].ids.index(each) for each in five.splits["train"].ids]
    assert positions == sorted(positions)
    assert samples_of(text, train_samples=5, split_seed=9).splits["train"].ids == five.splits["train"].ids


def test_the_fingerprint_is_of_the_content_after_the_options():
    fingerprint = samples_of(FACT).fingerprint
    assert samples_of(FACT, overrides=False).fingerprint == fingerprint
    assert samples_of(FACT, recursive_calls="mask").fingerprint != fingerprint
    assert samples_of(FACT.replace("n - 1", "n - 2")).fingerprint != fingerprint
    assert samples_of(FACT.replace("fact(n)", "fakt(n)", 1)).fingerprint != fingerprint


def test_facts_name_the_commonest_name_and_the_unseen_words():
    made = samples_of(
        "def getIt(): return 1\ndef getIt(): return 2\ndef put(): pass", "def getAll(): pass", "def put(): 1"
    )
    assert made.facts["commonest_name"] == {"words": ["get", "it"], "share": pytest.approx(2 / 3)}
    assert made.facts["unseen_words"] == {"validation": 0.5, "test": 0.0}


def test_known_counts_are_compared_files_exactly_and_functions_up_to_a_hundredth():
    def warnings(files, functions):
        known = {"files": dict.fromkeys(SPLITS, files), "functions": dict.fromkeys(SPLITS, functions)}
        text = "\n".join(f"def f{chr(97 + index)}(): return {index}" for index in range(20)) + "\n" + MANY
        return samples_of(text, text, text, drop_duplicates=False, known=known).facts["warnings"]

    assert warnings(1, 100) == []
    assert warnings(1, 101) == []
    assert [each.partition(":")[0].rpartition(": ")[2] for each in warnings(1, 102)] == [
        "python-stdlib is not the python-stdlib of the reference study"
    ]
    assert (
        "functions in train, validation, test: expected 102 / 102 / 102, found 100 / 100 / 100" in warnings(1, 102)[0]
    )
    assert "files in train, validation, test: expected 2 / 2 / 2, found 1 / 1 / 1" in warnings(2, 100)[0]


def test_duplicates_are_counted_whether_they_are_dropped_or_not():
    text = "def same(a):\n    return a\n"
    for drop in (True, False):
        made = samples_of(text * 3, text + "def v(): pass", text * 2 + "def w(): pass", drop_duplicates=drop)
        assert made.facts["duplicates"] == {"train": 2, "validation": 1, "test": 2}


def test_overlap_counts_names_bodies_and_words_that_the_training_split_has_shown():
    made = samples_of(
        train="def get_it(a):\n    return a\ndef put(b): pass",
        validation="def get_it(c): return c\ndef fetch(a):\n\n        return   a",
        test="def get_it(a):\n  return a\ndef get_all(): pass",
        drop_duplicates=False,
    )
    # Validation, by hand: get_it is known, fetch is not; the second body is the first of training but for blank space;
    # words of names get, it, (fetch); of bodies def (c) return (c) and def a return a.
    assert made.facts["overlap"]["validation"] == pytest.approx(
        {"names": 1 / 2, "bodies": 1 / 2, "functions": 0, "name_words": 2 / 3, "body_words": 6 / 8}
    )
    # Test: get_it is there whole; get_all has one known word of two; "def", "pass" are known.
    assert made.facts["overlap"]["test"] == pytest.approx(
        {"names": 1 / 2, "bodies": 1 / 2, "functions": 1 / 2, "name_words": 3 / 4, "body_words": 1}
    )


def test_a_split_without_samples_is_refused_with_the_counts():
    with pytest.raises(DataError, match=r"gave 2 functions of 3 files or rows, and none of them is left for test"):
        samples_of(test="x = 1")
