"""The engine: tokens in, tokens out. The only importer of llama_cpp; knows no agent, no memory, no schema.

llama.cpp's threads meet at a barrier hundreds of times a token, and GNU OpenMP lets them spin there. On an idle machine
that costs nothing; beside one other busy program the spinning thread takes the core that the awaited one needs, and
decoding falls to a tenth (figures in benchmarks/LOG.md). So they sleep instead, unless the user's environment says
otherwise. OpenMP reads the setting when its library is loaded: before llama_cpp is imported, which is here.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
