// Every kernel template, for the targets.
#pragma once
#include "dispatch/blocks.hpp"
#include "kernels/conv.hpp"
#include "kernels/copy.hpp"
#include "kernels/depthwise.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/nll.hpp"
#include "kernels/norm.hpp"
#include "kernels/optim.hpp"
#include "kernels/philox.hpp"
#include "kernels/pool.hpp"
#include "kernels/softmax.hpp"
#include "dispatch/table.hpp"
