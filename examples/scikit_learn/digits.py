"""Recognises handwritten digits with scikit-learn: a plain Sacred experiment, which knows nothing of ablations.

``python digits.py with forest data.noise=4`` runs it alone.
"""

import numpy as np
from sacred import Experiment, Ingredient
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

data = Ingredient("data")
ex = Experiment("digits", ingredients=[data], save_git_info=False)


@data.config
def data_config():
    train_samples = 300  # digits to learn from; the others are the test set
    noise = 3.0  # sd of what is added to each pixel, of 16 shades
    augment = False  # whether each digit is also learnt from with other noise


@ex.config
def config(data):
    model = "logistic"  # logistic or forest
    scale = True  # whether each pixel gets mean 0 and variance 1
    components = 0  # principal components that are kept; 0 for the pixels themselves
    if model == "logistic":
        C = 1.0  # inverse strength of the penalty
    else:
        trees = 30  # trees of the forest
        leaf_samples = max(1, data["train_samples"] // 300)  # fewest digits in a leaf


@ex.named_config
def forest():
    model = "forest"
    scale = False


@data.capture
def load(seed, train_samples, noise, augment):
    rng = np.random.default_rng(seed)
    images, labels = load_digits(return_X_y=True)
    order = rng.permutation(len(labels))
    train, test = order[:train_samples], order[train_samples:]
    if augment:
        train = np.concatenate([train, train])
    noisy = [images[rows] + rng.normal(0, noise, (len(rows), images.shape[1])) for rows in (train, test)]
    return noisy[0], labels[train], noisy[1], labels[test]


@ex.capture
def build(seed, _config, model, scale, components):
    if model == "logistic":
        classifier = LogisticRegression(C=_config["C"], max_iter=500)
    else:
        classifier = RandomForestClassifier(
            _config["trees"], min_samples_leaf=_config["leaf_samples"], random_state=seed
        )
    steps = [StandardScaler()] if scale else []
    if components:
        steps.append(PCA(components, random_state=seed))
    return make_pipeline(*steps, classifier)


@ex.automain
def run(seed):
    train_images, train_labels, test_images, test_labels = load(seed)
    model = build(seed).fit(train_images, train_labels)
    predicted = model.predict(test_images)
    return {
        "accuracy": float(np.mean(predicted == test_labels)),
        "f1": float(f1_score(test_labels, predicted, average="macro")),
    }
