import jax

# A silently broadcast [T] against [T, 1] is the classic way to compute a wrong loss.
jax.config.update("jax_numpy_rank_promotion", "raise")
