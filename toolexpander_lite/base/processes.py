"""The processes of a distributed run, if there are several."""

import sys


def processes():
    """(rank, number) of this process."""
    distributed = sys.modules.get("torch.distributed")  # who has not imported it is alone
    started = distributed and distributed.is_available() and distributed.is_initialized()
    return (distributed.get_rank(), distributed.get_world_size()) if started else (0, 1)


def is_first():
    """Is this the process that writes the run's files?"""
    return processes()[0] == 0


def gather(rows):
    """Lists of all processes, in the order of their ranks, as one list."""
    world = processes()[1]
    if world == 1:
        return rows
    parts = [None] * world
    sys.modules["torch.distributed"].all_gather_object(parts, rows)
    return [row for part in parts for row in part]


def on_first(function, *arguments):
    """Call a function in the first process alone -> what it returned, in all; what it raised is raised in all."""
    if processes()[1] == 1:
        return function(*arguments)
    told = [None]
    if is_first():
        try:
            told = [(function(*arguments), None)]
        except Exception as error:
            told = [(None, error)]
    sys.modules["torch.distributed"].broadcast_object_list(told, src=0)
    result, error = told[0]
    if error is not None:
        raise error
    return result


def leave():
    """End the group: leaving with its threads alive aborts a process now and then."""
    if processes()[1] > 1:
        sys.modules["torch.distributed"].destroy_process_group()
