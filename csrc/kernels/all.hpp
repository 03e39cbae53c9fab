// Every kernel template, for the targets.
#pragma once
#include "dispatch/blocks.hpp"
#include "kernels/conv.hpp"
#include "kernels/copy.hpp"
#include "kernels/depthwise.hpp"
#include "dispatch/table.hpp"
