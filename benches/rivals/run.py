"""What a Python user would pick instead of Servable, installed and measured beside it.

    python benches/rivals/run.py                         everything, in turns; under an hour
    python benches/rivals/run.py --quick                 one short round
    python benches/rivals/run.py --only ray --model tiny  some servers, some models; may be repeated

Needs wrk and a package index. Each rival gets an environment of its own in ``build/bench/rivals`` (see
``environments.py``). A full run writes ``benches/results/rivals.json``, ``docs/images/rivals.svg`` and the
tables between the markers of ``docs/performance.md`` and ``README.md``; with ``--quick``, ``--only`` or
``--model``, only ``build/bench/rivals`` is written. Exit status 1 if Servable failed or answered wrongly.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the modules that all benchmarks share

from comparison import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
