"""Running moments taken anew on other data, without labels: adaptive batch normalization."""

from __future__ import annotations

from uanref import backend
from uanref.data.batches import Batches
from uanref.data.sets import Dataset
from uanref.layers.base import Layer, count
from uanref.norms.batch import BatchNorm
from uanref.norms.uan import UAN
from uanref.training.evaluation import EVALUATION_BATCH, dtype_of


def adapt(model: Layer, dataset: Dataset, batch_size: int = EVALUATION_BATCH) -> int:
    """Replace the running moments of a trained network by those of ``dataset``: AdaBN (Li et al. 2016).

    Concerned are batch normalization and UAN with statistics of the batch, whose mixture stays as it is, online EM or
    not: no weight moves. They see the batches in train mode and everything else stays in eval mode, so that each
    layer's input is already normalized by the batch's own moments. Of several batches, as equal in size as can be, the
    moments are averaged (this project's choice). A component of UAN to which no sample of a batch belongs keeps what
    it had; one that waits for its first training batch, to start there, goes on waiting. After an error or Ctrl-C all
    is as before.

    Args:
        model: changed in place; every layer gets its mode back.
        dataset: of the new kind; its labels are not looked at.
        batch_size: samples in a batch at most, >= 2.

    Returns:
        How many layers took new moments; 0 where a network has none.

    Raises:
        ValueError: a batch size below 2; a single sample per channel.
    """
    batches = -(-len(dataset) // count("batch_size", batch_size, 2))
    concerned = [layer for _, layer in model.modules() if isinstance(layer, BatchNorm | UAN) and _has_moments(layer)]
    momenta = [(norm, norm.momentum) for norm in concerned]
    moments = [(norm, norm.running_mean, norm.running_var) for norm in concerned]
    mixtures = [(norm, norm.update, norm.start) for norm in concerned if isinstance(norm, UAN)]
    modes = [(layer, layer.training) for _, layer in model.modules()]
    dtype = dtype_of(model)
    model.eval()
    try:
        for norm in concerned:
            norm.training = True
        for mixture, _, _ in mixtures:
            mixture.update, mixture.start = "backprop", "paper"  # no step of EM, no start on the first batch
        with backend.inference():
            seen = 0
            for x, _ in Batches(dataset, -(-len(dataset) // batches)) if concerned else ():
                seen += len(x)
                for norm in concerned:
                    norm.momentum = len(x) / seen  # so the running moments are the mean over all so far
                model.forward(x if dtype is None else x.astype(dtype, copy=False))
    except BaseException:
        for norm, mean, variance in moments:  # arrays that no forward changes: it puts new ones in their place
            norm.running_mean, norm.running_var = mean, variance
        raise
    finally:
        for norm, momentum in momenta:
            norm.momentum = momentum
        for mixture, update, start in mixtures:
            mixture.update, mixture.start = update, start
        for layer, mode in modes:
            layer.training = mode
    return len(concerned)


def _has_moments(layer: BatchNorm | UAN) -> bool:
    return isinstance(layer, BatchNorm) or layer.statistics == "batch"
