import jax

# Tests of several devices need some; everything else runs on the first.
jax.config.update("jax_num_cpu_devices", 8)

# A silently broadcast [T] against [T, 1] is the classic way to compute a wrong loss.
jax.config.update("jax_numpy_rank_promotion", "raise")
