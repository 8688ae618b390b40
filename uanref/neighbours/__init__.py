"""Four methods whose names resemble Unsupervised Adaptive Normalization's; ``docs/neighbours.md`` tells them apart.

- :mod:`uanref.neighbours.clade`: class-adaptive normalization, gamma and beta looked up per pixel;
- :mod:`uanref.neighbours.alcn`: adaptive local contrast normalization, a weighted sum of Gaussian filters;
- :mod:`uanref.neighbours.streaming`: normalization of a stream by the moments of a sliding window;
- :mod:`uanref.neighbours.inverse_probability`: the adaptively normalized inverse-probability-weighted mean.

Each holds the method's core and nothing around it.
"""
