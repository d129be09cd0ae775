"""What every test stands on."""

import os

from hypothesis import settings

# Intel's library may sum a matrix product in another order where its operands lie elsewhere in memory, and does so on
# processors without AVX-512. Laws that compare a trial with itself in other company need products that do not.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

# The same examples in every run: a commit passes or fails wherever it is tried.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")
