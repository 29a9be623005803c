"""The engine: tokens in, tokens out. The only importer of llama_cpp; knows no agent, no memory, no schema.

llama.cpp's threads meet at a barrier hundreds of times a token, and GNU OpenMP lets them spin there for long. Beside
one other busy program, a spinning thread takes the core that the awaited one needs, and decoding falls to a thirtieth.
So they spin for a moment only and then sleep: 95 % of the speed on an idle machine, several times as much on a busy one
(benchmarks/LOG.md; to sleep at once, OMP_WAIT_POLICY=PASSIVE, is better still beside others, but takes two thirds of
the speed on an idle machine). The user's environment has the last word. OpenMP reads it when its library is loaded:
before llama_cpp is imported, which is here.
"""

import os

if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "1000"
