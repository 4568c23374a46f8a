"""Trainings of a second: a small model on some hundred functions of the standard library."""

import dataclasses

import torch

from ablations.files import cache_dir
from ablations.naming.config import Config, Data, Decoder, Encoder, Evaluation, Model, Training
from ablations.naming.data import load_data
from ablations.naming.training import train

CPU = torch.device("cpu")


def config_of(**sections):
    base = {
        "data": Data(input_tokens=24, train_samples=800, validation_samples=60, test_samples=80, special_methods=False),
        "model": Model(hidden=32),
        "encoder": Encoder(layers=1, heads=2, intermediate=64),
        "decoder": Decoder(layers=1, heads=2, intermediate=64),
        "training": Training(max_steps=12, learning_rate=2e-3, batch_samples=16),
        "evaluation": Evaluation(every_steps=6),
    }
    changed = {name: dataclasses.replace(base[name], **changes) for name, changes in sections.items()}
    return Config(**(base | changed))


def trained(config, seed=0, log=None, **options):
    """The outcome and the log, without what depends on the clock; a log that is given is there, too, after an error."""
    log = log if log is not None else []
    data = load_data(config, cache_dir())

    def add(name, value, step):
        if name != "tokens_per_s":
            log.append((name, step, value))

    return train(config, data, seed, CPU, add, **options), log
