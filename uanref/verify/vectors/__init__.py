"""``uanref vectors``: small inputs and outputs of every norm, for whoever ports a layer to another framework.

:func:`cases` is the list. Each case becomes a ``.npz`` (without pickle) and a ``.json`` file with the same
arrays; ``readme.md`` tells what they are. Nothing depends on the time, the folder or the number of threads:
the same versions on the same machine write the same bytes.
"""

from uanref.verify.vectors.arrays import DTYPES, compute
from uanref.verify.vectors.case import Case
from uanref.verify.vectors.folder import write
from uanref.verify.vectors.formats import TOLERANCE
from uanref.verify.vectors.listing import cases

__all__ = ["DTYPES", "TOLERANCE", "Case", "cases", "compute", "write"]
