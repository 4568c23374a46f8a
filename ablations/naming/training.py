"""Training, validation and test of one run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ablations import stopping
from ablations.naming.allocation import keep_freed_memory
from ablations.naming.batches import Batch, rearranged, steps_of, training_batch, training_order
from ablations.naming.checkpoints import Best, Checkpoints
from ablations.naming.config import Config
from ablations.naming.cost import Cost, peak_memory_mb
from ablations.naming.data import Encoded
from ablations.naming.evaluation import Evaluated, evaluate, fixed_subset
from ablations.naming.graphs import PackedBatch, Scorer, steps_for
from ablations.naming.guard import Event, Guard, Log, RollBack, memory_named
from ablations.naming.handover import TakenOver
from ablations.naming.heads import NamingModel
from ablations.naming.journal import Journal, Unread
from ablations.naming.model import model_for
from ablations.naming.optimisation import learning_rate, make_optimizer, seed_dropout, train_step
from ablations.plan import seed_for

SET_ASIDE = 2  # batches, after a rollback: the batch whose loss was bad, and the one whose update came before it
Rows = NDArray[np.int64]
NO_ROWS: Rows = np.empty(0, dtype=np.int64)
BeforeStep = Callable[[int, NamingModel, Batch], None]


@dataclass(frozen=True)
class Outcome:
    """What a run found.

    Attributes:
        scores: ``validation_*`` and ``test_*`` at the selected checkpoint.
        test: The test split, sample by sample.
        selected_step: Optimizer step of that checkpoint.
        resumed_at: Steps at which an earlier attempt's work was taken up, in order.
        taken_over: What was taken over from another run: ``run_id``, ``steps``, ``seconds``, and ``how``: continued, or
            its weights scored anew; empty for nothing.
        cost: Parameters, FLOPs, steps, seconds, memory.
        model: What the model says of itself: ``loss_unit``, and ``warm_start`` where its decoder had one.
    """

    scores: dict[str, float]
    test: Evaluated
    selected_step: int
    resumed_at: list[int]
    taken_over: dict[str, Any]
    cost: dict[str, float]
    model: dict[str, Any]


def train(
    config: Config,
    data: Encoded,
    seed: int,
    device: torch.device,
    log: Log,
    *,
    events: list[Event] | None = None,
    checkpoints: Checkpoints | None = None,
    before_step: BeforeStep | None = None,
) -> Outcome:
    """Trains one model, selects its best checkpoint on validation and tests that one, once.

    Args:
        config: The experiment's config.
        data: Encoded splits.
        seed: The run's seed: initialisation, order and dropout derive from it.
        device: Where to compute.
        log: Called with (metric, value, step) as values are measured. ``steps`` announces how many there will be,
            ``rewind`` that those after a step will be measured again.
        events: Takes the failures as they are seen (see :class:`~ablations.naming.guard.Guard`), even if training
            then ends with an error.
        checkpoints: Where to keep the last checkpoint; one that is there already is resumed. In memory without it. Its
            ``handover`` says what to leave for other runs, and from which to take over.
        before_step: Called with the step, the model and the batch before each step: a way to plant failures, on a CPU.

    Raises:
        Diverged: The loss or the gradient is not finite, or ``training.on_failure`` does not let the run go on.
        OutOfMemory: The device's memory does not suffice.
        Stopped: A signal asked the run to stop; what it had trained is in its checkpoint.
    """
    keep_freed_memory()
    events = events if events is not None else []
    trainer = Trainer(config, data, seed, device, log, events, checkpoints or Checkpoints(), before_step)
    with memory_named(config, device, trainer.ran_out_of_memory):
        trainer.begin()
        with stopping.at_safe_points() as stop_wanted:
            while trainer.step < trainer.steps:
                try:
                    trainer.take_step()
                    stops = stop_wanted()
                    if trainer.validation_is_due:
                        trainer.validate_and_keep(to_stop=stops)
                    elif stops:
                        trainer.keep_to_stop()
                    if stops:
                        stopping.stop()
                except RollBack as failure:
                    trainer.return_from(failure)
        return trainer.test()


@dataclass(frozen=True)
class _Upcoming:
    """A batch that is to be trained on next; ``packed`` where that was done ahead."""

    position: int
    rows: Rows
    batch: Batch
    packed: PackedBatch | None = None


class Trainer:
    """A run in training; for its arguments see :func:`train`.

    Attributes:
        step: Optimizer steps taken.
        steps: Optimizer steps of the whole run.
    """

    def __init__(
        self,
        config: Config,
        data: Encoded,
        seed: int,
        device: torch.device,
        log: Log,
        events: list[Event],
        checkpoints: Checkpoints,
        before_step: BeforeStep | None,
    ):
        training, samples = config.training, config.evaluation.train_samples
        self.steps = steps_of(len(data.train), training.batch_samples, training.epochs, training.max_steps)
        self.step = 0
        self._config, self._data, self._seed, self._device, self._log = config, data, seed, device, log
        self._model = model_for(config, data, seed).to(device)
        self._optimizer = make_optimizer(self._model, training, device)
        self._packed = steps_for(self._model, self._optimizer, config, device)
        validations = -(-self.steps // config.evaluation.every_steps) + config.evaluation.at_start
        self._scorer: Scorer | None = Scorer(self._model, config, device, times=validations)
        self._best, self._cost = Best(config.evaluation.select_by), Cost()
        self._guard = Guard(training, events, log, lambda rows: [data.train.ids[row] for row in rows])
        self._journal = Journal(log, self._guard, device)
        self._checkpoints, self._before_step = checkpoints, before_step
        self._subset = fixed_subset(data.train, samples) if samples is not None else None
        self._resumed_at: list[int] = []
        self._handover, self._taken_over = checkpoints.handover, dict[str, Any]()
        self._do("before the first step")
        self._upcoming: _Upcoming | None = None
        self._take_up_order()

    def ran_out_of_memory(self) -> str:
        """Records that the memory did not suffice; returns what for."""
        self._guard.ran_out_of_memory(self.step, self._rows)
        return self._doing

    def _do(self, what: str, rows: Rows = NO_ROWS) -> None:
        self._doing, self._rows = what, rows

    @property
    def validation_is_due(self) -> bool:
        """Whether the model is to be validated after this step."""
        return self.step % self._config.evaluation.every_steps == 0 or self.step == self.steps

    def begin(self) -> None:
        """Takes up an earlier attempt's work or another run's, else scores the untrained model if that is wanted."""
        self._log("steps", self.steps, 0)
        state = self._checkpoints.load()
        if state is not None:
            self._resume(state)
            return
        taken = self._handover.take()
        if taken is not None and self._take_over(taken):
            return
        if self._config.evaluation.at_start:
            self._score_splits()
        if self._guard.rolls_back:
            self.keep()
        self._journal.restart_clock()

    # -- steps ------------------------------------------------------------------------------------------------

    def take_step(self) -> None:
        """One optimizer step.

        Raises:
            Diverged: Training must not go on.
            RollBack: It must return to the last checkpoint.
        """
        with self._cost.clock("training"):
            upcoming = self._upcoming or self._drawn()
            position, rows, batch = upcoming.position, upcoming.rows, upcoming.batch
            self._upcoming = None
            self.step += 1
            self._do(f"step {self.step}", rows)
            if self._before_step is not None:
                self._before_step(self.step, self._model, batch)
            rate = learning_rate(self.step, self.steps, self._config.training)
            loss, norm = self._stepped(upcoming, rate)
            tokens = int(batch.mask.sum() + batch.real.sum())
            self._journal.add(Unread(self.step, position, rows, loss, norm, rate, tokens))
            if self._packed is not None and self._device.type == "cuda" and self.step < self.steps:
                drawn = self._drawn()  # while the device computes, before anything waits for it
                self._upcoming = replace(drawn, packed=self._packed.pack(drawn.batch))
            if self.validation_is_due:
                self._journal.flush()  # waits for the device, so that its time is counted as training
            elif self._journal.is_full:
                self._journal.turn()

    def _drawn(self) -> _Upcoming:
        position, rows = next(self._order)
        return _Upcoming(position, rows, training_batch(self._data, rows, self._config, position, self._seed))

    def _take_up_order(self) -> None:
        """Goes on with the batches behind the steps that are taken."""
        self._order, self._upcoming = self._batches(), None

    def _stepped(self, upcoming: _Upcoming, rate: float) -> tuple[Tensor, Tensor]:
        """The step itself: without padding where that is known."""
        seed, batch = seed_for("dropout", self._seed) % 2**31 + self.step, upcoming.batch
        seed_dropout(seed, self._device)
        pads = self._config.training.padding == "maximum"  # what is asked for counts
        self._cost.add_step(batch, 3 * (self._model.loss_flops(batch) if pads else self._model.real_flops(batch)))
        if self._packed is not None:
            return self._packed.step(upcoming.packed or self._packed.pack(batch), rate, seed % 2**31)
        tensors = self._model.tensors(batch, self._device)
        return train_step(self._model, self._optimizer, tensors, rate, self._config, self._device)

    def _batches(self) -> Iterator[tuple[int, Rows]]:
        """Place in the training order and rows of each batch that is still to be taken."""
        training, guard = self._config.training, self._guard
        spare = SET_ASIDE * training.max_rollbacks
        lengths = self._data.train.input_lengths_uncut
        order = training_order(lengths, training.batch_samples, self.steps + spare, self._seed)
        batches = rearranged(order, self.steps, guard.skipped, guard.postponed)
        return itertools.islice(batches, self.step, None)

    # -- scores -----------------------------------------------------------------------------------------------

    def validate(self) -> None:
        """Scores the model and keeps its weights if they are the best so far."""
        self._best.offer(self.step, self._score_splits(), self._model)
        self._journal.restart_clock()

    def validate_and_keep(self, *, to_stop: bool = False) -> None:
        """Validates, keeps a checkpoint where that pays and leaves for other runs what they need.

        What is left at the end is what a longer run has there: a validation only if that has one, too.

        Args:
            to_stop: Whether the run stops here: then a checkpoint is kept in any case.
        """
        regular = self.step % self._config.evaluation.every_steps == 0
        if self.step == self.steps and not regular:
            self._leave()
        self.validate()
        self._handover.leave_weights(self.step, self._model.state_dict())
        if self._guard.rolls_back or to_stop or self._checkpoints.pays:
            self.keep()
        if self.step == self.steps and regular:
            self._leave()

    def _leave(self) -> None:
        with self._cost.clock("checkpoints"):
            peak = max(self._cost.peak_memory_mb, peak_memory_mb(self._device))
            self._handover.leave({**self._state(), "cost": {**self._cost.state(), "peak_memory_mb": peak}})

    def _score_splits(self) -> dict[str, float]:
        """Scores the validation split and, alike, the fixed training samples; returns the validation scores."""
        splits = {"validation": self._data.validation}
        if self._subset is not None:
            splits["train_eval"] = self._subset
        found = {}
        for name, split in splits.items():
            self._do(f"scoring {name.replace('train_eval', 'training')} samples after step {self.step}")
            with self._cost.clock("evaluation"):
                scored = evaluate(self._model, self._data, split, self._config, self._device, self._cost, self._scorer)
            for metric, value in scored.scores.items():
                self._log(f"{name}_{metric}", value, self.step)
            found[name] = scored.scores
        return found["validation"]

    def test(self) -> Outcome:
        """Tests the best weights."""
        self._best.restore(self._model)
        facts = dict(self._model.facts)
        if self._packed is not None:
            facts["training_steps"] = self._packed.facts
        self._packed = self._scorer = None  # the memory of their graphs
        self._do("the test")
        with self._cost.clock("test"):
            test = evaluate(self._model, self._data, self._data.test, self._config, self._device, self._cost)
        scores = {f"validation_{name}": value for name, value in self._best.scores.items()}
        scores |= {f"test_{name}": value for name, value in test.scores.items()}
        cost = self._cost.totals(self._model, self.steps, self._device)
        return Outcome(scores, test, self._best.step, self._resumed_at, self._taken_over, cost, facts)

    # -- checkpoints ------------------------------------------------------------------------------------------

    def keep(self) -> None:
        """Keeps a checkpoint, where one can be of use: in a file, or for a rollback."""
        if not (self._checkpoints.lasting or self._guard.rolls_back):
            return
        self._do(f"keeping a checkpoint after step {self.step}")
        with self._cost.clock("checkpoints"):
            self._checkpoints.save(self._state())
        self._journal.restart_clock()

    def keep_to_stop(self) -> None:
        """Keeps a checkpoint between two validations.

        Not where failures return to the last checkpoint: a run that is taken up must return to where an unbroken one
        does, to a validation.
        """
        if not self._guard.rolls_back:
            self._journal.flush()
            self.keep()

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "guard": self._guard.state(),
            "best": self._best.state(),
            "cost": self._cost.state(),
            "events": self._guard.events,
            "resumed_at": self._resumed_at,
            "taken_over": self._taken_over,
        }

    def _restore(self, state: dict[str, Any]) -> None:
        """Puts back what the next steps depend on."""
        self._packed = self._upcoming = None  # frees what they hold before as much is made anew
        self.step = state["step"]
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._packed = steps_for(self._model, self._optimizer, self._config, self._device)
        self._guard.restore(state["guard"])

    def _resume(self, state: dict[str, Any]) -> None:
        self._restore(state)
        self._log("rewind", self.step, self.step)
        self._taken_over = state["taken_over"]
        self._best.resume(state["best"])
        self._cost.restore(state["cost"])
        self._guard.events[:] = state["events"]
        self._resumed_at = [*state["resumed_at"], self.step]
        self._take_up_order()
        self._journal.restart_clock()

    # -- what is shared with other runs -----------------------------------------------------------------------

    def _take_over(self, taken: TakenOver) -> bool:
        """Begins with another run's training; returns whether that could be.

        Its values are logged as if they had been measured here, so that the run is in every number a whole one.
        """
        every = self._config.evaluation.every_steps
        steps = [step for step in range(every, taken.steps + 1, every) if step < self.steps]
        if taken.steps > self.steps or (taken.alike and taken.steps == self.steps):
            return False
        if taken.steps == self.steps:
            steps.append(self.steps)
        if not taken.alike and not taken.has_weights(steps):
            return False
        how = "continued" if taken.alike else "scored anew"
        self._taken_over = {"run_id": taken.run_id, "steps": taken.steps, "seconds": 0.0, "how": how}
        if taken.alike:
            self._continue(taken, steps)
        else:
            self._score_anew(taken, steps)
        self._restore(taken.state)
        self._guard.events[:] = taken.state["events"]
        self._take_up_order()
        self._journal.restart_clock()
        return True

    def _continue(self, taken: TakenOver, steps: list[int]) -> None:
        """Takes over scores and best weights, too."""
        for entry in taken.entries([0, *steps]):
            self._log_taken(*entry)
        self._best.resume(taken.state["best"])
        self._cost.restore(taken.state["cost"])
        taken.pass_on(self._handover.trail, steps)

    def _score_anew(self, taken: TakenOver, steps: list[int]) -> None:
        """Scores, as this run scores, the weights that the other one had when it was scored."""
        if self._config.evaluation.at_start:
            self._score_splits()
        entries = list(taken.entries([]))
        for after, step in itertools.pairwise([0, *steps]):
            for entry in entries:
                if after < entry[1] <= step:
                    self._log_taken(*entry)
            self.step = step
            self._model.load_state_dict(taken.weights(step))
            self.validate()
        for entry in entries:
            if entry[1] > (steps[-1] if steps else 0):
                self._log_taken(*entry)
        self._cost.take_training(taken.state["cost"])

    def _log_taken(self, metric: str, step: int, value: float, seconds: float) -> None:
        if seconds:
            self._log("elapsed", seconds, step)
        self._log(metric, value, step)
        self._taken_over["seconds"] += seconds

    def return_from(self, failure: RollBack) -> None:
        """Returns to the last checkpoint; the batch that failed, and the one before it, are set aside."""
        state = self._checkpoints.load()
        if state is None:
            raise RuntimeError(f"step {self.step}: the checkpoint to return to is gone") from failure
        self._journal.drop()
        self._restore(state)
        self._log("rewind", self.step, self.step)
        met = []
        for each in self._batches():
            met.append(each)
            if each[0] == failure.position:
                break
        failure.event["returned_to"] = self.step
        self._guard.set_aside(failure.event, met[-SET_ASIDE:])
        self._take_up_order()
        self.keep()  # with the event in it: a run that is resumed knows how often it has returned
        self._log("rollback", failure.event["step"], self.step)
