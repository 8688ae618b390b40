"""What the cupy backend needs, piece by piece, and the command that repairs each: one sentence per piece.

The pieces in the order in which one needs the other: CuPy's package, the NVIDIA driver, a visible GPU, the CUDA
libraries (cuBLAS for products, NVRTC to compile kernels), a first product. CuPy itself is passed in:
:mod:`uanref.backend` imports it, and nothing here waits for a device unless it must.
"""

from uanref.diagnosis.facts import installed
from uanref.diagnosis.inventory import Piece, first_product, pieces
from uanref.diagnosis.sentences import no_device, no_driver, no_package, no_product

__all__ = ["Piece", "first_product", "installed", "no_device", "no_driver", "no_package", "no_product", "pieces"]
