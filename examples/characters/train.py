"""Learns to predict the next character of a text with a small recurrent network: a plain Sacred experiment.

Its text is the documentation that comes with Python itself. ``python train.py with lstm hidden=64`` runs it alone.
"""

import math

import numpy as np
import torch
from sacred import Experiment
from torch import nn

ex = Experiment("characters", save_git_info=False)
CELLS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


@ex.config
def config():
    cell = "gru"  # rnn, gru or lstm
    hidden = 48  # numbers that the network remembers
    embedding = hidden // 2  # numbers that stand for a character
    dropout = 0.0  # share of the remembered numbers left out in training
    steps = 40  # optimizer steps
    window = 24  # characters that are seen at once
    batch = 16  # windows of a step
    optimizer = {"lr": 0.01, "decay": True, "clip": 1.0}


@ex.named_config
def lstm():
    cell = "lstm"
    hidden = 40


class Model(nn.Module):
    def __init__(self, characters, cell, embedding, hidden, dropout):
        super().__init__()
        self.embed = nn.Embedding(characters, embedding)
        self.cell = CELLS[cell](embedding, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(hidden, characters)

    def forward(self, windows):
        """Scores of each next character; windows are (batch, window)."""
        return self.out(self.dropout(self.cell(self.embed(windows))[0]))


@ex.capture
def text(characters=40_000):
    """The text as numbers, and how many different ones there are."""
    from pydoc_data.topics import topics

    content = "\n".join(topics[name] for name in sorted(topics))[:characters]
    known = {each: number for number, each in enumerate(sorted(set(content)))}
    return torch.tensor([known[each] for each in content]), len(known)


@ex.capture
def windows(numbers, starts, window):
    return torch.stack([numbers[start : start + window + 1] for start in starts])


def bits(model, rows):
    """Bits a character that the model needs to write the rows down: its mean cross-entropy."""
    scores = model(rows[:, :-1])
    return nn.functional.cross_entropy(scores.flatten(0, 1), rows[:, 1:].flatten()) / math.log(2)


@ex.main
def run(cell, hidden, embedding, dropout, steps, window, batch, optimizer, seed, _run):
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    numbers, characters = text()
    train, test = numbers[: len(numbers) * 9 // 10], numbers[len(numbers) * 9 // 10 :]
    held_out = windows(test, range(0, len(test) - window - 1, window))
    model = Model(characters, cell, embedding, hidden, dropout)
    adam = torch.optim.Adam(model.parameters(), optimizer["lr"])
    for step in range(1, steps + 1):
        loss = bits(model.train(), windows(train, rng.integers(0, len(train) - window - 1, batch)))
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), optimizer["clip"])
        if optimizer["decay"]:
            adam.param_groups[0]["lr"] = optimizer["lr"] * (1 - (step - 1) / steps)
        adam.step()
        if step % (steps // 4) == 0:
            with torch.no_grad():
                _run.log_scalar("test_bits", bits(model.eval(), held_out).item(), step)
    return {"parameters": sum(each.numel() for each in model.parameters())}


if __name__ == "__main__":
    ex.run_commandline()
