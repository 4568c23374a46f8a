import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from ablations.errors import AblationsError, StudyError
from ablations.importing.choices import Choices
from ablations.importing.code_settings import read_code
from ablations.importing.notebooks import propose
from ablations.yamlfile import read_yaml

SETUP = """!pip install transformers
%matplotlib inline
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments
INPUT_TOKENS = {input_tokens}
OUTPUT_TOKENS = 10
"""
MODEL = """config = BertGenerationConfig(
    vocab_size=tokenizer.vocab_size, num_hidden_layers={layers}, num_attention_heads=4, intermediate_size=4 * 256
)
config.hidden_dropout_prob = 0.1
model = EncoderDecoderModel(encoder, decoder)
"""
TRAIN = """arguments = Seq2SeqTrainingArguments(
    output_dir="out/{name}", learning_rate={rate}, {more}
    num_train_epochs=1, predict_with_generate=True,
)
trainer = Seq2SeqTrainer(model, arguments, data_collator=collate)
trainer.train()
"""


def notebook(folder, name, *, input_tokens=128, layers=4, rate="5e-5", more="", extra=""):
    """A notebook like those of the reference study."""
    cells = [
        SETUP.format(input_tokens=input_tokens),
        MODEL.format(layers=layers) + extra,
        TRAIN.format(name=name, rate=rate, more=more),
    ]
    code = [{"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": 1,
             "source": cell.splitlines(keepends=True)} for cell in cells]  # fmt: skip
    text = {"cells": [{"cell_type": "markdown", "metadata": {}, "source": ["# F1"]}, *code], "nbformat": 4,
            "metadata": {"kernelspec": {"language": "python", "name": "python3"}}, "nbformat_minor": 5}  # fmt: skip
    path = folder / f"{name}.ipynb"
    path.write_text(json.dumps(text))
    return path


@pytest.fixture
def copies(tmp_path):
    """The way the reference study was made: a notebook a change."""
    return [
        notebook(tmp_path, "baseline"),
        notebook(tmp_path, "constant-lr", more='lr_scheduler_type="constant",'),
        notebook(tmp_path, "layers-24", layers=24),
        notebook(tmp_path, "layers-32", layers=32),
        notebook(tmp_path, "input-256", input_tokens=256),
        notebook(tmp_path, "altogether", layers=32, input_tokens=256),
        notebook(tmp_path, "altogether-decay", layers=32, input_tokens=256, more="weight_decay=0.02,"),
        notebook(tmp_path, "tied", extra="model.tie_weights()\n"),
    ]


def proposed(paths, folder, **choices):
    """What is proposed: the text, its data, and what was printed."""
    out = io.StringIO()
    propose(paths, Choices(**choices), folder / "study.yaml", Console(file=out, width=200, markup=False))
    text = (folder / "study.yaml").read_text()
    document = read_yaml(text)
    assert not document.problems
    return text, document.data, out.getvalue()


def test_copies_become_the_changes_that_they_make(copies, tmp_path):
    _, data, _ = proposed(copies, tmp_path)
    assert data["baseline"] == {
        "input_tokens": 128, "num_hidden_layers": 4, "lr_scheduler_type": None, "weight_decay": None,
    }  # fmt: skip
    assert data["ablations"] == {
        "lr-scheduler-type": {"set": {"lr_scheduler_type": "constant"}},
        "num-hidden-layers": {"sweep": {"num_hidden_layers": [24, 32]}},
        "input-tokens": {"set": {"input_tokens": 256}},
        "altogether": {"combine": ["num-hidden-layers=32", "input-tokens"]},
        "altogether-decay": {"extends": "altogether", "set": {"weight_decay": 0.02}},
    }


def test_each_difference_names_its_file_cell_and_line(copies, tmp_path):
    text, _, _ = proposed(copies, tmp_path)
    assert "num_hidden_layers: 4  # baseline.ipynb, cell 2, line 2: BertGenerationConfig.num_hidden_layers" in text
    assert "# layers-24.ipynb:\n  #   BertGenerationConfig.num_hidden_layers: 4 → 24 (cell 2, line 2)" in text
    assert "Seq2SeqTrainingArguments.weight_decay: absent → 0.02 (cell 3, line 2)" in text


def test_what_no_parameter_expresses_is_written_down(copies, tmp_path):
    text, _, said = proposed(copies, tmp_path)
    assert "tied.ipynb sets nothing otherwise than the baseline:" in text
    assert "NOT EXPRESSED, code: cell 2, line 6: `model.tie_weights()` is new" in text
    assert "tied.ipynb: not expressed, code: cell 2, line 6" in said


def test_folders_for_output_are_no_parameters_unless_asked_for(copies, tmp_path):
    text, data, _ = proposed(copies, tmp_path)
    assert "output_dir" not in data["baseline"] and "#   Seq2SeqTrainingArguments.output_dir" in text
    (tmp_path / "study.yaml").unlink()
    _, data, _ = proposed(copies, tmp_path, parameter=["output_dir"])
    assert data["baseline"]["output_dir"] == "out/baseline"


def test_any_of_the_files_may_be_the_baseline(copies, tmp_path):
    _, data, _ = proposed(copies, tmp_path, baseline=["layers-24"])
    assert data["baseline"]["num_hidden_layers"] == 24
    assert data["ablations"]["num-hidden-layers"] == {"sweep": {"num_hidden_layers": [4, 32]}}


@pytest.mark.slow
def test_the_proposal_is_a_study_once_its_experiment_is_there(copies, tmp_path, monkeypatch):
    from ablations.study import load_study

    text, _, _ = proposed(copies, tmp_path)
    with pytest.raises(StudyError, match=r"my_package\.experiment cannot be imported"):
        load_study(tmp_path / "study.yaml")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("")
    (tmp_path / "mine" / "config.py").write_text(
        "from dataclasses import dataclass\nfrom ablations.schema import tunable\n\n\n@dataclass\nclass Config:\n"
        "    input_tokens: int = tunable(128, 'tokens')\n    num_hidden_layers: int = tunable(4, 'layers')\n"
        "    lr_scheduler_type: str | None = tunable(None, 'schedule')\n"
        "    weight_decay: float | None = tunable(None, 'decay')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "study.yaml").write_text(text.replace("my_package.experiment:ex", "mine.experiment:ex"))
    assert len(load_study(tmp_path / "study.yaml").ablations) == 5


SCRIPT = """import argparse
from dataclasses import dataclass

parser = argparse.ArgumentParser()
parser.add_argument("--learning-rate", "-l", type=float, default={rate}, help="rate")
parser.add_argument("--epochs", type=int, default=3)


@dataclass
class Config:
    depth: int = {depth}
    sizes: tuple = (1, 2)


settings = {{"batch": 2 ** 5, "optimizer": {{"name": "adam", "decay": {decay}}}}}
first, second = 1, {second}


def train(steps=100, *, patience={patience}):
    return steps
"""


def script(folder, name, **changed):
    usual = {"rate": "1e-3", "depth": 2, "decay": 0.0, "second": 2, "patience": 5}
    path = folder / name
    path.write_text(SCRIPT.format(**usual | changed))
    return path


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"rate": "3e-3"}, {"learning_rate": 0.003}),
        ({"depth": 4}, {"depth": 4}),
        ({"decay": 0.1}, {"decay": 0.1}),
        ({"second": 3}, {"second": 3}),
        ({"patience": -1}, {"patience": -1}),
    ],
)
def test_settings_of_scripts_stand_where_people_put_them(tmp_path, changed, expected):
    paths = [script(tmp_path, "train.py"), script(tmp_path, "copy.py", **changed)]
    _, data, said = proposed(paths, tmp_path)
    assert [each["set"] for each in data["ablations"].values()] == [expected]
    assert "not expressed" not in said


def test_code_is_read_and_never_run(tmp_path):
    evil = f"import pathlib\nA = 1\npathlib.Path({str(tmp_path / 'evil')!r}).touch()\n"
    (tmp_path / "a.py").write_text(evil)
    (tmp_path / "b.py").write_text(evil.replace("A = 1", "A = 2 ** 10 ** 10 ** 10\nB = 'x' * 10 ** 12"))
    text, data, _ = proposed([tmp_path / "a.py", tmp_path / "b.py"], tmp_path)
    assert not (tmp_path / "evil").exists()
    assert "A = 2 ** 10 ** 10 ** 10" in text and data["ablations"]["a"] == {"set": {"a": None}}


def test_everything_that_is_wrong_is_said_at_once(tmp_path):
    (tmp_path / "a.ipynb").write_text("{")
    (tmp_path / "b.ipynb").write_text(json.dumps({"cells": [], "metadata": {"kernelspec": {"language": "R"}}}))
    (tmp_path / "c.ipynb").write_text("[]")
    with pytest.raises(AblationsError) as caught:
        proposed([tmp_path / name for name in ("a.ipynb", "b.ipynb", "c.ipynb")], tmp_path)
    for expected in ("a.ipynb: expected a notebook, found no JSON", "b.ipynb: expected a notebook in Python",
                     "c.ipynb: expected a notebook with cells"):  # fmt: skip
        assert expected in str(caught.value)
    assert not (tmp_path / "study.yaml").exists()


def test_a_cell_that_is_no_python_is_named_and_the_others_are_read(tmp_path):
    paths = [script(tmp_path, "a.py"), notebook(tmp_path, "b", extra="def broken(:\n")]
    _, _, said = proposed(paths, tmp_path)
    assert "b.ipynb: not expressed, not read: cell 2: invalid syntax" in said


def test_a_study_that_is_there_is_never_overwritten(copies, tmp_path):
    (tmp_path / "study.yaml").write_text("mine")
    with pytest.raises(StudyError, match="there already"):
        proposed(copies, tmp_path)
    assert (tmp_path / "study.yaml").read_text() == "mine"


@given(st.text(max_size=200))
@settings(max_examples=150, deadline=None)
def test_no_text_of_a_cell_does_more_than_be_refused(text):
    read_code([text], script=False)
