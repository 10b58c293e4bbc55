"""Several processes that share a run."""

import jax

from purejaxrl_a3c.checks import check_count, reject
from purejaxrl_a3c.run.options import Options


def join_processes(options: Options) -> None:
    """Make this process one of several, if the options say so. This must come before anything asks for a device.

    Raises:
        InputError: if the options do not go together, or there are no other processes to be found.
    """
    by_hand = (options.coordinator_address, options.num_processes, options.process_id)
    if by_hand != (None, None, None):
        for field in ("coordinator_address", "num_processes", "process_id"):
            if getattr(options, field) is None:
                reject(field, None, "given, since others of coordinator_address, num_processes and process_id are")
        check_count("num_processes", options.num_processes)
        if not 0 <= (options.process_id or 0) < (options.num_processes or 1):
            reject("process_id", options.process_id, f"in [0, {options.num_processes})")
    elif not options.distributed:
        return
    try:
        jax.distributed.initialize(*by_hand)
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        accepted = f"of a job that JAX recognises, or coordinator_address given ({reason})"
        reject("distributed", options.distributed, accepted)
