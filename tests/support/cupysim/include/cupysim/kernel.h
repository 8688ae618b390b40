// Everything that a CUDA source may use before it includes anything: what NVRTC predefines.
#pragma once
#include "cupysim/language.h"
#include "cupysim/mathematics.h"
#include "cupysim/half.h"
#include "cupysim/atomics.h"
#include "cupysim/fibers.h"
#include "cupysim/block.h"
#include "cupysim/warp.h"
