"""Packed weights, kept between calls: inference and frozen layers pack once. Whose weights change must not ask.

An entry holds a copy of the weights that it was made of, and every use compares it with what lies there now: weights
written in place, views, and a freed array whose address another one got, are all seen. A weight is kept when it comes
for the second time; one that was found changed a few times is taken for a moving one and not kept any more. The bytes
stay within FASTCONV_WEIGHT_CACHE: for a newcomer go, oldest first, the entries that were not used since it came before.
So a network that does not fit keeps some of its layers, instead of always driving out the one that comes next. No
packing here: ``build`` knows how.

A thread may come back in while it holds the lock: a signal handler or a finalizer may run a layer. So the lock lets it,
each step on the dictionaries stands alone, and how many bytes there are is counted, not remembered.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t
from libc.string cimport memcmp, memcpy

import os
from threading import RLock

from fastconv import config
from fastconv.backends.cpu.runtime cimport allocate, parallel_for, release
from fastconv.backends.cpu.runtime import on_empty_cache

cnp.import_array()

cdef int64_t PIECE = 256 * 1024  # bytes compared or copied by a task
cdef int CHANGES = 3             # after which a weight is taken for a moving one
cdef int SEEN = 1024             # keys remembered without an entry


cdef class Panels:
    """A block of packed weights."""

    def __dealloc__(self):
        release(self.data, self.nbytes)


cdef Panels new_panels(size_t nbytes):
    """Memory for packed weights. Raises MemoryError."""
    cdef Panels panels = Panels.__new__(Panels)
    panels.data = <char*> allocate(nbytes)
    if panels.data == NULL:
        raise MemoryError("convolution: no memory for packed weights")
    panels.nbytes = nbytes
    return panels


cdef struct Pair:
    char* kept
    const char* now
    int64_t bytes
    bint differ


cdef void compare(void* context, int64_t index) noexcept nogil:
    cdef Pair* pair = <Pair*> context
    cdef int64_t first = index * PIECE
    if not pair.differ and memcmp(pair.kept + first, pair.now + first, min(PIECE, pair.bytes - first)) != 0:
        pair.differ = True


cdef void keep(void* context, int64_t index) noexcept nogil:
    cdef Pair* pair = <Pair*> context
    cdef int64_t first = index * PIECE
    memcpy(pair.kept + first, pair.now + first, min(PIECE, pair.bytes - first))


cdef class Entry:
    cdef Panels weights, made
    cdef size_t nbytes
    cdef int64_t used       # when last


_lock = RLock()
_entries = {}  # key -> Entry, the one used last at the end
_seen = {}     # key -> how often its weights were found changed, when it came last, the bytes of its entry if known
cdef int64_t clock = 0


cdef size_t total():
    cdef size_t nbytes = 0
    for entry in list(_entries.values()):
        nbytes += (<Entry> entry).nbytes
    return nbytes


cdef bint has_room(size_t nbytes, int64_t since, size_t bound):
    """Whether so many bytes fit beside the entries that were used after ``since``."""
    for entry in list(_entries.values()):
        nbytes += (<Entry> entry).nbytes if (<Entry> entry).used > since else 0
    return nbytes <= bound


cdef int make_room(size_t nbytes, size_t bound) except -1:
    """Let the oldest entries go until so many bytes fit."""
    for oldest in list(_entries):
        if total() + nbytes <= bound:
            break
        _entries.pop(oldest, None)
    return 0


cdef int remember(object key, int changes, int64_t now, size_t nbytes) except -1:
    """Put a key behind all others."""
    _seen.pop(key, None)
    _seen[key] = changes, now, nbytes
    while len(_seen) > SEEN:
        _seen.pop(next(iter(_seen)), None)
    return 0


cdef object kept_panels(object frozen, cnp.ndarray w, object kind, object build):
    """What ``build()`` makes of ``w`` or made of it before, or None: not to be kept.

    ``frozen``: True, or a dict for this one ``w``, whose owner vouches that it never changes: it keeps what was made.
    """
    if type(frozen) is not dict:
        return cached_panels(w, kind, build)
    made = frozen.get(kind)
    if made is None:
        made = frozen[kind] = build()
    return made


cpdef object cached_panels(cnp.ndarray w, object kind, object build):
    """Return what ``build()`` makes of the weights ``w``, or what an earlier call made of the same ones; or None, where
    it is not kept.

    Args:
        w: contiguous; others are not kept.
        kind: says, with shape and dtype of ``w``, how they are packed; hashable.
        build: returns new Panels; it must not depend on more than ``w`` and ``kind``.
    """
    global clock
    cdef Entry entry
    cdef Pair pair
    cdef Panels made
    cdef int64_t now, since = 0
    cdef bint wanted = False
    pair.bytes = cnp.PyArray_NBYTES(w)
    bound = config.weight_cache_bytes()
    if not cnp.PyArray_IS_C_CONTIGUOUS(w) or 2 * pair.bytes > bound:
        return None
    key = (<size_t> cnp.PyArray_DATA(w), tuple([w.shape[i] for i in range(w.ndim)]), w.dtype.char, kind)
    pair.now = <const char*> cnp.PyArray_DATA(w)
    pair.differ = False
    with _lock:
        clock += 1
        now = clock
        entry = _entries.pop(key, None)
        changes, since, nbytes = _seen.get(key, (-1, now, 0))
        if entry is not None:
            entry.used = now
            _entries[key] = entry  # now the one used last
        else:
            wanted = 0 <= changes < CHANGES and has_room(nbytes, since, bound)
            remember(key, max(changes, 0), now, nbytes)
    if entry is not None:
        pair.kept = entry.weights.data
        with nogil:
            parallel_for((pair.bytes + PIECE - 1) // PIECE, compare, &pair)
        if not pair.differ:
            return entry.made
        with _lock:
            if _entries.get(key) is entry:
                _entries.pop(key, None)
            changes = max(changes, 0) + 1
            wanted = changes < CHANGES
            remember(key, changes, now, entry.nbytes)
    if not wanted:
        return None
    entry = Entry.__new__(Entry)
    entry.weights = new_panels(pair.bytes)
    pair.kept = entry.weights.data
    with nogil:  # before they are packed: what is kept is never newer than what was made of it
        parallel_for((pair.bytes + PIECE - 1) // PIECE, keep, &pair)
    made = build()
    entry.made, entry.used = made, now
    entry.nbytes = pair.bytes + made.nbytes
    with _lock:
        remember(key, max(changes, 0), now, entry.nbytes)
        _entries.pop(key, None)  # another thread may have been first
        if has_room(entry.nbytes, since, bound):
            make_room(entry.nbytes, bound)
            _entries[key] = entry
    return made


def clear():
    """Forget all entries."""
    with _lock:
        _entries.clear()
        _seen.clear()


def cached_bytes():
    """Return the bytes of all entries: packed weights and the copies that they are compared with."""
    return total()


def entries():
    """Return how many there are."""
    return len(_entries)


on_empty_cache(clear)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
