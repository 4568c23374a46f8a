"""What is learnt as near-synonyms of name words from the standard library: ``python benchmarks/near_synonyms.py``.

Two lists were written down before anything was learnt: pairs that programmers use for one another, and pairs of
opposites or counterparts. The more of the first and the fewer of the second a table holds for its size, the better. The
first list is far from complete: how many pairs of a table are near-synonyms is for its reader to judge (``--show``).
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ablations.files import cache_dir
from ablations.naming import corpora, synonyms
from ablations.naming import data as naming_data
from ablations.naming.config import Data

NEAR = """
get/fetch, remove/delete, make/create, make/build, create/build, build/construct, init/initialize, dir/directory,
msg/message, str/string, num/number, add/append, append/insert, start/begin, stop/end, finish/end, check/verify,
check/validate, write/dump, write/save, read/load, find/search, find/lookup, send/transmit, copy/clone,
error/exception, err/error, size/length, len/length, quit/exit, close/shutdown, path/filename, file/filename,
func/function, arg/argument, args/arguments, param/parameter, attr/attribute, attr/attributes, config/configuration,
info/information, parse/scan, generate/produce, generate/make, update/refresh, reset/clear, execute/run, run/call,
invoke/call, show/display, print/display, key/name, id/identifier, var/variable, val/value, obj/object, repr/str,
index/idx, prev/previous, next/following, cur/current, max/maximum, min/minimum, char/character, cmd/command,
doc/document, doc/docstring, dest/destination, src/source, addr/address, conn/connection, sock/socket, temp/tmp,
join/concat, join/merge, split/partition, equal/eq, format/fmt, convert/transform, convert/translate,
encode/serialize, dump/serialize, load/deserialize, compute/calculate, handle/process, list/array, items/elements,
item/element, text/string, user/username, host/hostname, lib/library, mod/module, module/package, ext/extension,
spec/specification, pos/position, offset/position, expr/expression, stmt/statement, proc/process,
auth/authentication, req/request, resp/response, hash/digest, modify/change, change/update, kill/terminate,
wait/sleep, setup/init, iter/iterate, walk/traverse, visit/traverse, lower/casefold, seq/sequence, dict/mapping,
decl/declaration, def/definition, prefix/start, suffix/end, suffix/extension, quote/escape, is/has, ensure/check,
close/finish, warn/warning, log/debug, exists/available, support/supports, supported/available, accept/allow,
open/connect, bind/connect, emit/write, emit/send, output/write, put/set, put/add, register/add, unregister/remove,
pop/remove, discard/remove, drop/delete
"""
OPPOSED = """
start/stop, open/close, get/set, add/remove, push/pop, read/write, min/max, left/right, encode/decode, load/dump,
load/store, enter/exit, acquire/release, first/last, head/tail, before/after, input/output, in/out, up/down,
lock/unlock, quote/unquote, pack/unpack, enable/disable, true/false, upper/lower, begin/end, source/target, src/dst,
client/server, import/export, send/recv, send/receive, request/response, parent/child, next/previous, next/prev,
insert/delete, attach/detach, register/unregister, escape/unescape, setup/teardown, success/failure, lt/gt, le/ge,
int/float, bytes/str, key/value, row/column, width/height, x/y, year/month, day/month, hour/minute, stdin/stdout,
stdout/stderr, show/hide, connect/disconnect, compress/decompress, lshift/rshift, global/local, public/private,
ancestor/descendant, positive/negative, floor/ceil, sin/cos, any/all, and/or, mul/div, add/sub, old/new,
suspend/resume, grow/shrink, line/column
"""


def pairs_of(text: str) -> set[tuple[str, str]]:
    return {(one, other) for one, other in (sorted(pair.strip().split("/")) for pair in text.split(","))}


def within(pairs: Iterable[tuple[str, str]], words: set[str]) -> int:
    return sum(one in words and other in words for one, other in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", default="python-stdlib")
    parser.add_argument("--path", help="folder or archive of the corpus")
    parser.add_argument("--show", type=int, default=0, help="pairs to print")
    options = parser.parse_args()
    data, cache = Data(corpus=options.corpus, path=options.path), Path(cache_dir())
    made = naming_data._samples(data, corpora.find(data, cache, print), cache, print)
    train = made.splits["train"]
    started = time.perf_counter()
    found = synonyms.learn(train.codes, train.targets, train.ids)
    seconds = time.perf_counter() - started
    table = {(one, other) for one, other, _ in found}
    holding = Counter(word for target in train.targets for word in set(target.split()))
    words = {word for word, names in holding.items() if names >= synonyms.LEAST_NAMES}
    near, opposed = pairs_of(NEAR), pairs_of(OPPOSED)
    print(f"{len(train.codes):,} functions, {len(table)} pairs in {seconds:.1f} s")
    print(f"near-synonyms found: {len(near & table)} of {within(near, words)} of which both words are frequent enough")
    print(f"opposites found: {len(opposed & table)} of {within(opposed, words)}")
    for one, other, likeness in found[: options.show]:
        print(f"{one} ~ {other}  {likeness:.2f}")


if __name__ == "__main__":
    main()
