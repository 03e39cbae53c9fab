"""The tape's own work, compiled since every operation pays for it: what an operation is, how it gets there, and the
walk back from the youngest to the leaves.

Tensors (tensor.py) name their class here by ``serve``; whether anything is recorded is decided in tape.py.
"""

cimport cython
from cpython.object cimport PyObject_TypeCheck, PyTypeObject
from cpython.type cimport PyType_GenericNew

from heapq import heappop, heappush
from itertools import count

from numpy import ndarray

from fastconv import backends
from fastconv.deferred import Deferred
from fastconv.errors import GraphError, mismatch

cdef type _Tensor = None
cdef object _grad_enabled = None
cdef object _examine = None
cdef object _next_order = count(0, -1).__next__
cdef list _ALL = [(True,) * length for length in range(8)]  # the needs of inputs that all want a gradient


def serve(type tensor, grad_enabled, examine):
    """Name the class of Tensors, the ContextVar that says whether operations on them are recorded, and what brings
    operands into form that are not usable as they are, or refuses them."""
    global _Tensor, _grad_enabled, _examine
    _Tensor, _grad_enabled, _examine = tensor, grad_enabled, examine


@cython.final
@cython.freelist(64)
cdef class Node:
    """One recorded operation. It holds what its gradient needs, never the Tensor it made: activations that no
    gradient needs are freed as soon as the caller drops them."""

    cdef readonly object order      # an operation is younger than its inputs: ascending order is topological
    cdef readonly tuple sources     # an operation, a leaf, or None: no gradient wanted
    cdef readonly tuple needs
    cdef readonly object backward
    cdef readonly object gate       # the result, where a ReLU ends the operation: ``backward`` gets what is behind it
    cdef readonly bint defers       # ``backward`` takes a Deferred for dy and for what it completes
    cdef readonly bint completes    # ``backward`` adds what else has come to inputs[0], and applies that one's gate


cdef inline bint is_tensor(object value) noexcept:
    return PyObject_TypeCheck(value, <PyTypeObject*> _Tensor)


cdef inline object bare(object value):
    return value.data if is_tensor(value) else value


def usable_operands(dict named, tuple optional):
    """Return ``[backend, array, ...]``, or None if they are not usable as they are; ``optional`` ones may be None."""
    cdef list arrays = []
    for name, value in named.items():
        value = bare(value)
        if value is None and name not in optional:
            return None
        arrays.append(value)
    backend = backends.for_numpy()
    if not backend.usable(arrays):
        return None
    arrays.insert(0, backend)
    return arrays


cdef list usable_three(x, w, b):
    """Return ``[backend, x, w, b]``, or None if they are not usable as they are; ``b`` may be None."""
    if x is None or w is None:
        return None
    backend = backends.for_numpy()
    return [backend, x, w, b] if backend.usable((x, w, b)) else None


def layer_operands(str op, input, weight, bias):
    """Return what ``operands`` does for a layer's input, weight and optional bias, sooner."""
    cdef list found = usable_three(bare(input), bare(weight), bare(bias))
    return _examine(op, ("bias",), {"input": input, "weight": weight, "bias": bias}) if found is None else found


def gradient_operands(str op, dy, x, weight):
    """Return what ``operands`` does for a layer's gradients, sooner."""
    third = bare(weight)
    cdef list found = None if third is None else usable_three(bare(dy), bare(x), third)
    return _examine(op, (), {"dy": dy, "x": x, "weight": weight}) if found is None else found


def is_frozen(value):
    """Return whether no gradient of ``value`` can be asked for after an operation on it now."""
    return not (is_tensor(value) and value.requires_grad and _grad_enabled.get())


def record(y, inputs, backward, gate=None, bint completes=False, bint defers=False):
    """Return ``y`` as the user gets it: an array if all ``inputs`` are arrays, else a Tensor on the tape.

    ``backward(dy, needs)`` returns one gradient for each input; ``needs[i]`` says whether input ``i`` wants one. It may
    return ``dy`` itself or a view of it, and must not write to it. ``gate``: y, where it comes from a ReLU; then ``dy``
    has been through ``relu_backward``. ``completes``: where inputs[0] wants a gradient, ``backward(dy, needs, waiting,
    gates, spare)`` adds to it what came before (or None) and, if ``gates``, applies ``relu_backward`` with inputs[0] as
    its y; it is a new array, or the one that came before if that is ``spare``, with the bits of the verbs one by one.
    ``defers``: ``backward`` takes a Deferred for dy and for what came before, and may return one in place of a
    gradient.
    """
    cdef list sources = []
    cdef Py_ssize_t tracked = 0
    cdef bint any_tensor = False
    cdef Node node = None
    for value in inputs:
        source = None
        if is_tensor(value):
            any_tensor = True
            if value.requires_grad:
                source = value._node
                if source is None:
                    source = value
                tracked += 1
        sources.append(source)
    if not any_tensor:
        return y
    if tracked and _grad_enabled.get():
        node = Node.__new__(Node)
        node.order, node.sources, node.backward = _next_order(), tuple(sources), backward
        node.gate, node.completes, node.defers = gate, completes, defers
        if tracked == len(sources) < len(_ALL):
            node.needs = _ALL[tracked]
        else:
            node.needs = tuple([source is not None for source in sources])
    out = PyType_GenericNew(_Tensor, None, None)
    out.data, out.grad, out.requires_grad, out._node = y, None, node is not None, node
    return out


cdef bint is_alone(gradients, Py_ssize_t i):
    """Whether a gradient shares no memory with the others that an operation returned."""
    backend = backends.of(gradients[i])
    for k, other in enumerate(gradients):
        other = other.array if type(other) is Deferred else other
        if k != i and other is not None and backend.may_share_memory(gradients[i], other):
            return False
    return True


@cython.boundscheck(True)
def walk(root, dy, bint retain_graph):
    """Carry ``dy`` back from ``root``, youngest operation first; return the leaves' gradients."""
    cdef dict pending = {root: dy}
    cdef set ours = set()   # those whose pending gradient no one else holds: it may be added to in place
    cdef set gated = set()  # those whose pending gradient has gone through their gate
    cdef list heap = [((<Node> root).order, root)] if type(root) is Node else []
    cdef Node node
    cdef Py_ssize_t i
    cdef bint passes, gates, alone, own
    host = backends.for_numpy()
    while heap:
        node = heappop(heap)[1]
        gradient = pending.pop(node)
        if node.backward is None:
            raise GraphError(mismatch("backward", "a graph that is still there (or retain_graph=True)", "a freed one"))
        own = node in ours
        if type(gradient) is Deferred and not node.defers:
            gradient = gradient.settle()
        passes = node.gate is not None and node not in gated
        if passes:
            gradient, own = backends.of(gradient).relu_backward(gradient, node.gate), True
        first = node.sources[0] if node.completes else None
        if first is None:
            gradients = node.backward(gradient, node.needs)
        else:  # what is on its way to memory takes the rest along
            waiting, gates = pending.pop(first, None), type(first) is Node and (<Node> first).gate is not None
            if type(waiting) is Deferred and not node.defers:
                waiting = waiting.settle()
            gradients = node.backward(gradient, node.needs, waiting, gates, first in ours)
            dx = gradients[0]
            pending[first] = dx.settle() if type(dx) is Deferred and type(first) is not Node else dx
            ours.add(first)
            if gates:
                gated.add(first)
            if waiting is None and type(first) is Node:
                heappush(heap, ((<Node> first).order, first))
        for i in range(len(node.sources)):
            source = node.sources[i]
            if source is None or (i == 0 and first is not None):
                continue
            dx = gradients[i]
            if type(dx) is Deferred and (source in pending or type(source) is not Node):
                dx = dx.settle()
            if source in pending:
                gated.discard(source)
                backend, before = backends.of(dx), pending[source]
                if type(before) is Deferred:
                    backend.accumulate(before.array, dx)
                elif source in ours:
                    backend.accumulate(before, dx)
                else:
                    pending[source] = backend.add(before, dx)
                    ours.add(source)
                continue
            if type(source) is Node:
                heappush(heap, ((<Node> source).order, source))
            else:  # a leaf's gradient belongs to its user alone
                backend = host if type(dx) is ndarray else backends.of(dx)
                alone = passes and len(node.sources) == 1  # what came through the gate is no one else's
                if not alone and type(dx) is type(gradient) and backend.may_share_memory(dx, gradient):
                    dx = backend.scale(dx, 1.0)
            if type(dx) is Deferred or (own and dx is gradient and is_alone(gradients, i)):
                ours.add(source)
            pending[source] = dx
        if not retain_graph:
            node.sources, node.backward, node.gate = (), None, None
    return pending
