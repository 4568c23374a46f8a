"""Code of every language, in every place that takes text: a report shows it and runs none of it."""

from __future__ import annotations

import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest

from ablations.reporting import copies
from ablations.reporting.builtin import pandoc
from ablations.reporting.context import load_context
from ablations.reporting.render import render_report

SECRET = "what-no-report-may-show"
ATTACKS = """\
{{< include %s >}}
![x](%s)
[x](file://%s)
`#read("%s")`{=typst}
$#read("%s")$
#include "%s"
\\input{%s}
`<script src="%s"></script>`{=html}
<script>touch("%s")</script>
</script><img src=%s onerror=alert(1)>
<iframe src="%s"></iframe>
</pre></code><style>@import "%s"</style>
[x](javascript:alert("%s"))
x]{.evidence data-runs="%s" onclick="alert(1)"}
```{=html} <script>1</script> %s
```{python} open("%s", "w") ```
::: {.content-hidden} %s
@tbl-main [@fig-forest] [^1]: %s
&lt;script&gt;&#60;script&#62; %s
""".splitlines()


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the text outside of scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._silent = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._silent = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._silent = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self._silent else data


def elements(page: Path) -> Elements:
    found = Elements()
    found.feed(page.read_text(encoding="utf-8"))
    return found


def study_of(texts: list[str]) -> str:
    """A study with a text in every place that takes one."""
    everything = "\n".join(texts)
    ablations = {
        f"arm{number}": {"question": text, "group": text, "set": {"data.dataset": text}}
        for number, text in enumerate(texts[::5])
    }
    ablations["swept"] = {"question": everything, "sweep": {"data.path": texts}}
    study = {"study": "hostile", "question": everything, "unit": texts[0], "smallest_effect": 0.02, "seeds": 3}
    lines = [f"{key}: {json.dumps(value)}" for key, value in study.items()]
    return "\n".join([*lines, "ablations:", *(f"  {name}: {json.dumps(each)}" for name, each in ablations.items()), ""])


def hostile_results(synthetic: ModuleType, folder: Path, attacks: list[str]) -> tuple[Path, Path]:
    """The study and records that carry the attacks in errors, tracebacks, facts of the data and of the machine."""
    study = synthetic.write_study(folder, study_of([attack for attack in attacks if "\x1b" not in attack]))
    texts = iter(attacks * 100)

    def outcome(variant: str, seed: int) -> object:
        return synthetic.Outcome("failed", next(texts)) if seed == 2 and variant != "baseline" else synthetic.Outcome()

    synthetic.write_results(study, folder / "results", outcome, effects={})
    for number, path in enumerate(sorted((folder / "results").glob("runs/*/record.json"))):
        record, text = json.loads(path.read_text()), attacks[number % len(attacks)]
        record["environment"] |= {"platform": text, "cpu": text, "packages": {text: text}, "host": text}
        record["code"]["git_commit"] = text
        record["info"]["events"] = [{"kind": "spike", "step": 3, "loss": 1.0, "samples": [text], "action": text}]
        if record["error"]:
            record["error"] |= {"traceback": "\n".join(attacks), "type": text}
        if "data" in record["info"]:
            record["info"]["data"] |= {"corpus": text, "unparsed_reasons": {text: 3}, "dropped": {text: 2}}
            record["info"]["references"] = {text: {"test_f1": 0.1, "answer": text}}
        path.write_text(json.dumps(record))
    return study, folder / "results"


@pytest.mark.slow
def test_code_in_names_notes_values_errors_and_records_is_shown_and_not_run(
    synthetic: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABLATIONS_RENDERER", "builtin")
    secret = tmp_path / "secret.txt"
    secret.write_text(SECRET)
    attacks = [attack % secret for attack in ATTACKS]
    study, results = hostile_results(synthetic, tmp_path / "hostile", [*attacks, "\x1b[2J\x00\u202e\ud800"[:3]])
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    page, pdf = render_report(study, results)

    found = elements(page)
    kinds = {tag for tag, _ in found.found}
    assert not kinds & {"iframe", "object", "embed", "base", "form", "link"}
    scripts = [attributes for tag, attributes in found.found if tag == "script"]
    assert [each.get("type") for each in scripts if each.get("type") != "application/json"] == [None]
    for tag, attributes in found.found:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        target = str(attributes.get("href") or attributes.get("src") or "#")
        assert target.startswith(("#", "data:")), (tag, target[:80])
    said = " ".join(found.text.split())
    for attack in attacks:
        assert attack.split(" ")[0] in said, attack

    written = [path for path in tmp_path.rglob("*") if path.is_file() and path not in before]
    assert {page, pdf} <= set(written)
    assert all(path.is_relative_to(results / "report") for path in written)
    for path in written:
        assert SECRET.encode() not in path.read_bytes(), path
    if shutil.which("pdftotext"):  # streams of a PDF are compressed; without the program, Typst's source is looked at
        text = subprocess.run(["pdftotext", str(pdf), "-"], capture_output=True, text=True, check=True).stdout
        assert SECRET not in text
        assert "content-hidden" in text
    source = next(path for path in written if path.name == "report.typ").read_text(encoding="utf-8")
    assert not [line for line in source.splitlines() if line.lstrip().startswith(("#read", "#include", "#eval"))]


@pytest.mark.slow
def test_the_copies_for_other_documents_escape_what_those_would_run(synthetic: ModuleType, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    study, results = hostile_results(synthetic, tmp_path / "hostile", [attack % secret for attack in ATTACKS])
    for path in copies.write(load_context(study, results), tmp_path / "tables"):
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".tex":
            assert "\\input{" not in text
            assert path.stem == "data" or "\\textbackslash" in text  # of many arms the table of data names the first
        if path.suffix == ".md":
            tree = pandoc(text, "gfm", "json")
            assert "RawInline" not in tree and "RawBlock" not in tree
            assert all(part not in tree for part in ('"Image"', '"javascript:', '"file:'))
