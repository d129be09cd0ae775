"""What every test stands on."""

import os

# Intel's library may sum a matrix product in another order where its operands lie elsewhere in memory, and does so on
# processors without AVX-512. Laws that compare a trial with itself in other company need products that do not.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
