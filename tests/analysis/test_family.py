from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from ablations.analysis.family import adjust
from ablations.errors import AblationsError

NAN = float("nan")


def test_holm_on_demsars_example_rejects_what_demsar_rejects():
    # Demsar 2006, section 3.2.2: p = .016, .019, .607 against .017, .025, .05: the first two are rejected.
    adjusted = adjust(np.array([0.019, 0.607, 0.016]), ["main"] * 3)
    assert adjusted == pytest.approx([0.048, 0.607, 0.048])


@pytest.mark.parametrize("arms", [1, 2, 7, 30])
def test_the_figures_are_those_of_statsmodels(arms):
    p = np.random.default_rng(arms).random(arms).round(1) ** 3  # rounded: ties
    np.testing.assert_allclose(adjust(p, ["main"] * arms), multipletests(p, method="holm")[1])


def test_an_untestable_arm_counts_in_the_family_and_has_no_p():
    np.testing.assert_allclose(adjust(np.array([0.02, 0.03, NAN]), ["main"] * 3), [0.06, 0.06, NAN])


def test_families_are_corrected_apart():
    assert adjust(np.array([0.01, 0.02, 0.01]), ["a", "a", "b"]) == pytest.approx([0.02, 0.02, 0.01])


def test_no_correction_is_a_choice_and_others_are_unknown():
    assert adjust(np.array([0.01, 0.02]), ["a", "a"], "none").tolist() == [0.01, 0.02]
    with pytest.raises(AblationsError, match="unknown correction 'bonferoni'"):
        adjust(np.array([0.01]), ["a"], "bonferoni")
