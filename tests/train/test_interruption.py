import signal
import subprocess
import sys
import time

import pytest

# Minutes of work in one call of C, as in a compilation: Python runs no handler meanwhile.
WORK = """
import hashlib
from segjax.train.interruption import interruption, leave_at_once
leave_at_once()
with interruption() as asked:  # the training, which is over
    asked.arm()
print("ready", flush=True)
hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_process_without_anything_to_save_ends_at_once(number, code):
    process = subprocess.Popen(
        [sys.executable, "-c", WORK], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.2)
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (code, "\nstopped\n")
