import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.naming.words import split_words, without_keywords

# Splits written by hand after the rule: lowerUpper, "_", digits, UPPERUpper-lower.
KNOWN = {
    "getHTTPServer2": ("get", "http", "server"),
    "__init__": ("init",),
    "_": (),
    "__": (),
    "_1": (),
    "sha256sum": ("sha", "sum"),
    "XMLHttpRequest": ("xml", "http", "request"),
    "assertEQ": ("assert", "eq"),
    "aB": ("a", "b"),
    "do$it": ("do", "it"),
    "ÄpfelÖl": ("äpfel", "öl"),
    "ΑΒγδ": ("α", "βγδ"),
    "名前": ("名前",),
}


@pytest.mark.parametrize("identifier", KNOWN)
def test_an_identifier_is_split_at_its_changes_of_case_digits_and_underscores(identifier):
    assert split_words(identifier) == KNOWN[identifier]


@given(st.text(alphabet="abcXYZ_09", max_size=30))
def test_no_letter_is_lost_and_none_is_added(identifier):
    letters = "".join(each for each in identifier if each.isalpha())
    assert "".join(split_words(identifier)) == letters.lower()


@given(st.text(max_size=30))
def test_any_text_is_split_into_words_of_letters(text):
    assert all(word and "_" not in word and " " not in word for word in split_words(text))


@pytest.mark.parametrize(
    ("language", "code", "left"),
    [
        ("python", "def f(self): return not self.is_open", "f(): .is_open"),
        ("python", "in_place = None; returned = defer()", "in_place = ; returned = defer()"),
        ("java", "public int size() { return this.newSize; }", "size() { .newSize; }"),
    ],
)
def test_keywords_are_left_out_where_they_stand_alone(language, code, left):
    assert " ".join(without_keywords(code, language).split()) == left
