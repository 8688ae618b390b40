"""The pictures of trainings and experiments, drawn without any global state: each function returns a Figure."""

from __future__ import annotations

from matplotlib.backends.backend_agg import FigureCanvasAgg as FigureCanvasAgg

from uanref.plots.curves import curves as small_multiples  # noqa: F401  the module first: training's has the name here
from uanref.plots.densities import Activations as Activations
from uanref.plots.densities import activations as activations
from uanref.plots.depths import gradients as gradients
from uanref.plots.notebooks import notebook_style as notebook_style
from uanref.plots.saving import save as save
from uanref.plots.style import BLACK as BLACK
from uanref.plots.style import COLORS as COLORS
from uanref.plots.style import COMPONENT_COLORS as COMPONENT_COLORS
from uanref.plots.style import DPI as DPI
from uanref.plots.style import GREY as GREY
from uanref.plots.style import STYLES as STYLES
from uanref.plots.sweeps import sweep as sweep
from uanref.plots.training import curves as curves
from uanref.plots.training import history as history
