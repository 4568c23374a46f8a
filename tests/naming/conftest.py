"""Small corpora, written where a test may read them."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

JAVA = {
    "training/alpha/Stack.java": """
package alpha;
/** A stack. */
public class Stack<T> extends Base {
    // how many
    private int size;
    public int getSize() { return size; }
    @Override
    public String toString() { /* same name */ return super.toString() + size; }
    protected abstract void readHTTPHeader2(byte[] bytes) throws java.io.IOException;
    void doNothing() { // really
    }
    int fact(int n) { return n < 2 ? 1 : n * fact(n - 1); }
}
""",
    "training/alpha/Visitor.java": "interface Visitor { void visit(Node node); default int __() { return 0; } }\n",
    "training/alpha/Walker.java": "class Walker { void walkAll() { new Visitor() { public void visit(Node n) {} }; } }",
    "training/beta/Sum.java": "class Sum { int add(int a, int b) { return a + b; } }\n",
    "validation/gamma/Queue.java": "class Queue { void push(int i) { add(i); } int getSize() { return n; } }\n",
    "test/delta/Heap.java": "class Heap { int popLeast() { return take(0); } }\n",
}


@pytest.fixture(scope="module")
def deterministic():
    """One thread and deterministic algorithms: what is computed twice is the same to the bit."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


@pytest.fixture
def java_folder(tmp_path: Path) -> Path:
    """A corpus in the layout of java-small."""
    root = tmp_path / "java-small"
    for name, text in JAVA.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


@pytest.fixture
def java_archive(java_folder: Path) -> Path:
    """The same corpus as ``java-small.tar.gz`` with a folder around it."""
    archive = java_folder.with_name("java-small.tar.gz")
    with tarfile.open(archive, "w:gz") as opened:
        opened.add(java_folder, "java-small")
    return archive
