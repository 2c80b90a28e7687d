"""The order of events in a training: step, values, preview, checkpoint, stop.

The trainer knows networks and losses only; the loop knows images, files and signals.
Progress is counted in images seen, and every random stream is a function of it, so a
run that was interrupted goes on as if it had not been.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from sem2ct.runtime import checkpoint, distributed, log
from sem2ct.runtime.refusal import Refusal
from sem2ct.runtime.run_folder import RunFolder
from sem2ct.training import soundness
from sem2ct.training.watch import Best, Watch

LOGGER = logging.getLogger(__name__)

# A terminal's Ctrl-C and a launcher's copy of it arrive together; a second one that
# is meant comes later than this.
SECOND_SIGNAL_S = 1.0

UNWATCHED = Watch()


class Trainer(Protocol):
    """What the loop needs of a model."""

    @property
    def causes(self) -> Mapping[str, str]:
        """Which phase and network a value belongs to, and the setting that decides over it."""
        ...

    def step(self, images: dict[str, Tensor], images_seen: int) -> dict[str, Tensor]:
        """Learns from this rank's share; returns detached values without dimensions."""
        ...

    def state(self) -> dict[str, Any]:
        """Returns all that a resumed run needs, as plain values and tensors."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Takes back what `state` returned."""
        ...


def run(
    trainer: Trainer,
    *,
    batches: Callable[[int], dict[str, Tensor]],
    total_images: int,
    batch_size: int,
    values_images: int,
    preview_images: int,
    checkpoint_images: int,
    keep_checkpoints: int,
    folder: RunFolder,
    previews: Callable[[int], dict[str, np.ndarray]],
    what: str,
    extra: dict[str, Any] | None = None,
    watch: Watch = UNWATCHED,
) -> int:
    """Trains up to `total_images`, from the newest checkpoint on; returns images seen.

    Args:
        trainer: The model.
        batches: This rank's images for the step at so many images seen; called in a thread.
        total_images: Length of the training.
        batch_size: Images per step, over all ranks.
        values_images: Images between two rows of values.
        preview_images: Images between two previews.
        checkpoint_images: Images between two checkpoints.
        keep_checkpoints: How many checkpoints stay.
        folder: Where all is written.
        previews: Pictures by name, uint8 (H, W) or (H, W, 3); called on rank 0 only.
        what: Shown in front of the progress bar.
        extra: More for the checkpoint's bag, plain values and tensors.
        watch: What the training is judged by while it runs.

    Raises:
        Refusal: If the newest checkpoint cannot be used or the training diverges.
        SystemExit: 143 or 130 after SIGTERM or SIGINT, with the step finished and saved.
    """
    record = _Record(trainer, folder, watch, keep_checkpoints, extra or {})
    images_seen = record.resume()
    with (
        Ahead(batches, images_seen, batch_size, total_images) as ahead,
        log.progress(total_images, done=images_seen, unit="images", what=what) as bar,
        Stop() as stop,
    ):
        while images_seen < total_images:
            record.means.add(_step(trainer, ahead.next(), images_seen))
            images_seen += batch_size
            at_end = images_seen >= total_images
            measured = watch.values(images_seen, at_end=at_end)
            if images_seen % values_images == 0 or at_end:
                record.report(images_seen, measured)
            if images_seen % preview_images == 0 or at_end:
                _preview(folder, previews, images_seen)
            stopping = distributed.any_rank(stop.asked) and not at_end
            if images_seen % checkpoint_images == 0 or at_end or stopping:
                record.save(images_seen, measured)
            bar.update(batch_size)
            if stopping:
                stop.leave(images_seen)
    return images_seen


class Means:
    """Mean of each named value over the steps in which it appeared."""

    def __init__(self) -> None:
        """Starts with no values."""
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Adds one step's values, the same names on every rank, without waiting for them."""
        for name, value in values.items():
            before = self._sums.get(name)
            value = value.detach().double()
            self._sums[name] = value if before is None else before.to(value.device) + value
            self._counts[name] = self._counts.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        """Returns the means over all ranks and starts anew."""
        if not self._sums:
            return {}
        means = [total.cpu() / self._counts[name] for name, total in self._sums.items()]
        together = distributed.mean_over_ranks(torch.stack(means))
        names = list(self._sums)
        self._sums, self._counts = {}, {}
        return dict(zip(names, together.tolist(), strict=True))

    def state(self) -> dict[str, Any]:
        """Returns what was added since the last row, the mean over all ranks."""
        sums = {
            name: float(distributed.mean_over_ranks(total)) for name, total in self._sums.items()
        }
        return {"sums": sums, "counts": dict(self._counts)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state` returned."""
        self._sums = {
            name: torch.tensor(total, dtype=torch.float64) for name, total in state["sums"].items()
        }
        self._counts = dict(state["counts"])


class Clock:
    """Time since the run began, without the pauses between its parts."""

    def __init__(self, seconds: float, images_seen: int) -> None:
        """Goes on from the seconds of an earlier part."""
        self._start = time.monotonic() - seconds
        self._last = (seconds, images_seen)

    def read(self, images_seen: int) -> tuple[float, float]:
        """Returns seconds since the beginning, and images/s since the last reading."""
        seconds = time.monotonic() - self._start
        before, images_before = self._last
        self._last = (seconds, images_seen)
        return seconds, (images_seen - images_before) / max(seconds - before, 1e-9)


class Ahead:
    """Prepares the next batch in one thread while the present one is learned."""

    def __init__(
        self,
        batches: Callable[[int], dict[str, Tensor]],
        images_seen: int,
        batch_size: int,
        total_images: int,
    ) -> None:
        """Begins with the batch at `images_seen`."""
        self._batches = batches
        self._positions = iter(range(images_seen, total_images, batch_size))
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="next-batch")
        self._prepare()

    def next(self) -> dict[str, Tensor]:
        """Waits for the batch and has the one after it prepared."""
        assert self._future is not None
        batch = self._future.result()
        self._prepare()
        return batch

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the thread."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _prepare(self) -> None:
        position = next(self._positions, None)
        self._future = None if position is None else self._pool.submit(self._batches, position)


class Stop:
    """Turns the first SIGTERM or SIGINT into a flag; the second one ends the process."""

    # SIGUSR2 is what submitit asks SLURM for before a job's time is up.
    SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)

    def __init__(self) -> None:
        """Has not been asked to stop."""
        self._signal: signal.Signals | None = None
        self._asked_at = 0.0
        self._before: dict[signal.Signals, Any] = {}

    @property
    def asked(self) -> bool:
        """Whether a signal has come to this process."""
        return self._signal is not None

    def leave(self, images_seen: int) -> None:
        """Ends the process as the signal wants, once every rank has come here."""
        # Ranks that leave early would have the one that saves ended.
        distributed.barrier()
        LOGGER.info("stopped at %d images; the same command goes on from there", images_seen)
        number = self._signal or signal.SIGTERM
        if number == signal.SIGUSR2 and callable(self._before.get(number)):
            self._before[number](number, None)  # has the job put back in the queue
        raise SystemExit(128 + number)

    def __enter__(self) -> Self:
        """Listens, if this is the thread that gets signals."""
        if threading.current_thread() is threading.main_thread():
            for number in self.SIGNALS:
                self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Puts back the handlers that were there."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._signal is None:
            self._signal, self._asked_at = signal.Signals(number), now
            if distributed.is_main():
                # Not through the log: a signal may come while it is writing.
                os.write(2, f"\n{self._signal.name}: finishing this step, then saving\n".encode())
        elif now - self._asked_at > SECOND_SIGNAL_S:
            raise SystemExit(128 + number)


class _Record:
    """What is kept of a run: means since the last row, time, checkpoints, the best of them."""

    def __init__(
        self, trainer: Trainer, folder: RunFolder, watch: Watch, keep: int, extra: dict[str, Any]
    ) -> None:
        self.means = Means()
        self._trainer = trainer
        self._folder = folder
        self._checkpoints = folder.path / "checkpoints"
        self._watch = watch
        self._keep = keep
        self._extra = extra
        self._best = Best({})

    def resume(self) -> int:
        """Goes back to the newest checkpoint, or to nothing; returns images seen."""
        path = checkpoint.newest_sound(self._checkpoints)
        images_seen = 0 if path is None else self._restore(path)
        self._clock = Clock(self._folder.rewind(images_seen), images_seen)
        return images_seen

    def report(self, images_seen: int, measured: Mapping[str, float]) -> None:
        """Writes a row of values, and says it."""
        values = self.means.take()
        self._require_sound(values, images_seen)
        values = soundness.shown(values)
        seconds, rate = self._clock.read(images_seen)
        values |= measured
        row = {"seconds": round(seconds, 3), "images_per_second": round(rate, 3), **values}
        self._folder.values(images_seen, row)
        LOGGER.info(log.line(images_seen, seconds, rate, values))

    def save(self, images_seen: int, measured: Mapping[str, float]) -> None:
        """Writes a checkpoint, unless the training has diverged."""
        means = self.means.state()
        self._require_sound(means["sums"], images_seen)
        self._watch.require_spread(measured, images_seen, self._checkpoints)
        self._best.consider(measured, self._watch, images_seen)
        bag = {"trainer": self._trainer.state(), "means": means, **self._extra}
        best = self._best.record
        if best:
            bag["best"] = best
        checkpoint.save(self._checkpoints, images_seen, bag, keep=self._keep, best=best)

    def _restore(self, path: Path) -> int:
        bag = checkpoint.load(path)
        other = "choose another name with run=, or delete it"
        with checkpoint.fitting(path, "does not fit this training", remedy=other):
            self._trainer.restore(bag["trainer"])
            self.means.restore(bag["means"])
            self._best = Best(bag.get("best", {}))
        # A crash can come between a checkpoint and the record of it.
        checkpoint.record_best(self._checkpoints, self._best.record)
        LOGGER.info("going on from %s", path)
        return bag["images_seen"]

    def _require_sound(self, values: Mapping[str, float], images_seen: int) -> None:
        soundness.require(
            values,
            images_seen,
            causes=self._trainer.causes,
            advice=self._watch.advice,
            checkpoints=self._checkpoints,
        )


def _step(trainer: Trainer, images: dict[str, Tensor], images_seen: int) -> dict[str, Tensor]:
    try:
        return trainer.step(images, images_seen)
    except torch.OutOfMemoryError as error:
        raise Refusal(
            f"the GPU's memory is too small for this step: {error.args[0].splitlines()[0]}; lower"
            " batch_per_device (the result stays the same), or the width of the networks; in"
            " train-cyclegan set checkpoint_activations=true"
        ) from error


def _preview(
    folder: RunFolder, previews: Callable[[int], dict[str, np.ndarray]], images_seen: int
) -> None:
    if distributed.is_main():
        for name, image in previews(images_seen).items():
            folder.picture(name, images_seen, image)
