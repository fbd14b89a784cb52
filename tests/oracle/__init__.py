"""The independent oracle of every sink run. It shares no code with kas3.

Every record produced carries a value that no other record has. Afterwards the records of all visible data files, read with
Python's own gzip and with zstandard, equal the read-committed log exactly: nothing lost, nothing doubled, the order of each
partition kept inside each file; and no file's bytes changed, and none vanished, after it was first seen.

    with Watcher(files):
        ...                                                  # the run, with whatever went wrong in it
    compare(read_committed(bootstrap, topic), files).check()

`compare` looks at what is there in the end, `Watcher` at what was visible on the way.
"""

from .compare import Report, compare
from .files import Files, LocalFiles, S3Files, lines, open_files
from .log import Entry, Stream, produce, produce_transactions, read_committed
from .watch import Watcher

__all__ = [
    "Entry", "Files", "LocalFiles", "Report", "S3Files", "Stream", "Watcher",
    "compare", "lines", "open_files", "produce", "produce_transactions", "read_committed",
]
