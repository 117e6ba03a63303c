"""The fits of a stage in several processes, which share nothing but the study's folder."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack, contextmanager
from threading import Event, Thread

import torch
from joblib import Parallel, cpu_count, delayed, parallel_config
from lightning.pytorch.utilities import rank_zero_warn

from estitchup_pl.errors import EstitchupError
from estitchup_pl.optional import require
from estitchup_pl.stacking.device import device_of
from estitchup_pl.stacking.fit import count_weights
from estitchup_pl.study.config import Backend, StudyConfig
from estitchup_pl.study.fitting import Tick, batches, first_run, fit_and_keep
from estitchup_pl.study.stage import Job, Stage
from estitchup_pl.study.study import Study
from estitchup_pl.study.worker import Message, Origin, be_there, say, work

SECONDS_WORTH_WORKERS = 30.0
"""Estimated seconds of one thread from which on a stage is handed to workers, which take up to ten to start."""

SECONDS_WORTH_STARTED_WORKERS = 3.0
"""The same where workers are there already."""

SECONDS_WORTH_STARTING = 5.0
"""Estimated seconds of a stage from which on workers start beside it, for the stages that follow."""

SECONDS_A_STEP = 1e-3
"""What a step of one run costs beside its products."""

PRODUCTS_A_SECOND = 2e10
"""Multiplications and additions of one thread in a second."""

DEATHS_IN_A_ROW = 3
"""Deaths of workers, with nothing finished between them, after which a study gives up."""

SECONDS_BETWEEN_LOOKS = 2.0
"""Seconds between two looks into the folder for what workers have done."""

OF_NO_CONCERN = "A worker stopped while some jobs were given|\\d+ tasks which were still being processed"
"""What joblib says when it replaces a worker that has grown, as each does by the freed memory that it keeps, and when a
study ends while workers start."""


class Crew:
    """The processes that fit a study's jobs; started when a stage first needs them, and ended with the body.

    A stage that is too short to wait for them is fitted in this process, on one core; if it is long enough, they start
    on the others in the meantime.

    Args:
        config: The study.
    """

    def __init__(self, config: StudyConfig) -> None:
        self._config = config
        self._open = ExitStack()
        self._parallel: Parallel | None = None
        self._starting: Iterator[None] = iter(())

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, kind: type[BaseException] | None, *raised: object) -> None:
        if kind is None:
            self._wait_until_started()
        self._starting = iter(())  # what still starts is given up while joblib's warnings of that are not shown
        self._open.close()

    def fit(self, study: Study, stage: Stage, jobs: Sequence[Job], tick: Tick = lambda epochs: None) -> None:
        """Fit jobs of one stage and write what they give, in this process or in as many as the configuration says.

        Args:
            study: The study.
            stage: Its stage.
            jobs: What to fit.
            tick: Told of the epochs that pass, summed over jobs.

        Raises:
            EstitchupError: If workers die again and again.
        """
        workers = choose_workers(study, stage, jobs, self._parallel is not None)
        if workers == 1:
            self._start_beside(study, stage, jobs)
            for batch in batches(study, stage, jobs):
                fit_and_keep(study, stage, batch, tick)
            return
        with _progress(study, stage, len(jobs), tick):
            self._hand_out(study, stage, jobs, workers)

    def _hand_out(self, study: Study, stage: Stage, jobs: Sequence[Job], workers: int) -> None:
        """Hand out batches until all jobs are done; those of a worker that dies are handed out again."""
        deaths = 0
        while jobs:
            try:
                for messages in self._results(study, stage, batches(study, stage, jobs, workers), workers):
                    say(messages)
                return
            except BrokenProcessPool as error:
                missing = list(stage.jobs(study))
                deaths = deaths + 1 if len(missing) == len(jobs) else 1
                if deaths == DEATHS_IN_A_ROW:
                    raise EstitchupError(
                        f"a worker process has died {deaths} times in a row, before any fit had ended: it was killed, "
                        "or there was not enough memory. Ask for fewer workers, or for 1 to see what happens"
                    ) from error
                rank_zero_warn(f"a worker process has died; {len(missing)} fits of this stage go on in new ones")
                jobs = missing

    def _results(
        self, study: Study, stage: Stage, parts: Sequence[Sequence[Job]], workers: int
    ) -> Iterator[list[Message]]:
        origin = Origin.of(study, stage)
        self._wait_until_started()
        if self._parallel is None:
            self._parallel = self._open.enter_context(_started(self._config.backend, workers))
        yield from self._parallel(delayed(work)(origin, stage, part) for part in parts)

    def _start_beside(self, study: Study, stage: Stage, jobs: Sequence[Job]) -> None:
        """Start workers on the cores that the fits of this process leave idle, if later stages may want them."""
        config, cores = study.config, int(cpu_count())
        on_cores = config.backend == "loky" and device_of(config.accelerator).type == "cpu" and cores > 1
        if config.workers != "auto" or self._parallel is not None or not on_cores:
            return
        if estimated_seconds(study, stage, jobs) >= SECONDS_WORTH_STARTING:
            self._parallel = self._open.enter_context(_started("loky", cores))
            self._starting = self._parallel(delayed(be_there)() for _ in range(cores))

    def _wait_until_started(self) -> None:
        starting, self._starting = self._starting, iter(())
        for _ in starting:
            pass


def choose_workers(study: Study, stage: Stage, jobs: Sequence[Job], started: bool = False) -> int:
    """Resolve ``workers``: one for each core or GPU, and 1 where the work would not pay for starting them.

    Args:
        study: The study.
        stage: Its stage.
        jobs: What to fit.
        started: Whether workers have been started already.

    Returns:
        Their number; -1 for all that a cluster has.
    """
    config = study.config
    if config.workers != "auto":
        return config.workers
    if config.backend != "loky":
        return -1
    available = torch.cuda.device_count() if device_of(config.accelerator).type == "cuda" else cpu_count()
    least = SECONDS_WORTH_STARTED_WORKERS if started else SECONDS_WORTH_WORKERS
    pays = estimated_seconds(study, stage, jobs) >= least
    return max(1, min(available, len(jobs))) if pays else 1


def estimated_seconds(study: Study, stage: Stage, jobs: Sequence[Job]) -> float:
    """Estimate how long one thread would fit these jobs, by the size of the first."""
    run = first_run(study, stage, jobs)
    if run is None:
        return math.inf  # nothing is known of how long a method without epochs takes
    rows, batch = len(run.data.parts.train), run.data.batch_size
    products = 6 * count_weights(run) * rows / PRODUCTS_A_SECOND
    return len(jobs) * stage.epochs(study.config) * (products + math.ceil(rows / batch) * SECONDS_A_STEP)


@contextmanager
def _progress(study: Study, stage: Stage, jobs: int, tick: Tick) -> Iterator[None]:
    """Tell of fits as they appear in the folder, whoever has made them."""
    ended, epochs = Event(), stage.epochs(study.config)

    def watch() -> None:
        told, last = 0, False
        while not last:
            last = ended.wait(SECONDS_BETWEEN_LOOKS)
            done = jobs - sum(1 for _ in stage.jobs(study))
            tick((done - told) * epochs)
            told = done

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _started(backend: Backend, workers: int) -> Iterator[Parallel]:
    """Start a backend where none runs yet, and end what was started."""
    with ExitStack() as opened:
        if backend == "loky":
            opened.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", OF_NO_CONCERN)
            opened.enter_context(parallel_config("loky", n_jobs=workers, inner_max_num_threads=1))
            yield Parallel(return_as="generator_unordered", batch_size=1)  # its processes stay for the next stage
            return
        if backend == "ray":
            require("ray.util.joblib", "ray", "backend: ray").register_ray()
        else:
            opened.enter_context(_dask_client(workers))
        opened.enter_context(parallel_config(backend, n_jobs=workers))
        # Ray's pool gives its results only together.
        return_as = "list" if backend == "ray" else "generator_unordered"
        yield opened.enter_context(Parallel(return_as=return_as, batch_size=1))


def _dask_client(workers: int) -> AbstractContextManager[object]:
    """Join the cluster that ``DASK_SCHEDULER_ADDRESS`` names, or start one on this machine."""
    distributed = require("distributed", "dask", "backend: dask")
    if require("dask", "dask", "backend: dask").config.get("scheduler-address", None):
        client: AbstractContextManager[object] = distributed.Client()
    else:
        client = distributed.Client(n_workers=cpu_count() if workers == -1 else workers, threads_per_worker=1)
    return client
