"""Is it faster to train runs side by side with one thread each, or one run with all threads?

Times the steps of a study's first run (forward, backward, optimiser; random batches) in as many
processes as there are cores, with one thread each, and in one process with all cores, in turns, and
prints steps per second and their ratio. Machines are noisy: the ratio of one call is the result.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time

import torch


def steps_per_second(study: str, threads: int, steps: int, barrier) -> float:
    from mmengine.registry import MODELS, init_default_scope
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample
    from mmseg.utils import register_all_modules

    from pipelines.configs.model import baseline_model
    from pipelines.study import Study

    torch.set_num_threads(threads)
    register_all_modules()
    init_default_scope("mmseg")
    run = Study.load(study).runs[0]
    size = run.dataset.card.source.scenes.size
    model = MODELS.build(baseline_model(run)).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    batch = run.training.batch_size
    inputs = torch.randn(batch, 3, size, size)
    samples = []
    for _ in range(batch):
        sample = SegDataSample()
        sample.set_data({"gt_sem_seg": PixelData(data=torch.randint(0, 11, (1, size, size)))})
        samples.append(sample)

    def step() -> None:
        optimizer.zero_grad()
        model.parse_losses(model.loss(inputs, samples))[0].backward()
        optimizer.step()

    for _ in range(3):
        step()
    barrier.wait()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return steps / (time.perf_counter() - start)


def _worker(queue, *args) -> None:
    queue.put(steps_per_second(*args))


def together(study: str, processes: int, threads: int, steps: int) -> float:
    """Steps per second of `processes` processes with `threads` threads each, added up."""
    context = multiprocessing.get_context("spawn")
    queue, barrier = context.Queue(), context.Barrier(processes)
    workers = [
        context.Process(target=_worker, args=(queue, study, threads, steps, barrier))
        for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    total = sum(queue.get() for _ in workers)
    for worker in workers:
        worker.join()
    return total


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", default="default")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    for _ in range(args.rounds):
        apart = together(args.study, cores, 1, args.steps)
        joined = together(args.study, 1, cores, args.steps)
        print(
            f"{cores} processes with 1 thread: {apart:.1f} steps/s; "
            f"1 process with {cores} threads: {joined:.1f} steps/s; ratio {apart / joined:.2f}"
        )


if __name__ == "__main__":
    main()
