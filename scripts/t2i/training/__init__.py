"""MLPerf training of Stable Diffusion v2: data, network, steps, evaluation, log."""
