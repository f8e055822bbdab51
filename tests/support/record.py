"""What a job is told of its origin (`pflow.provenance.record`), for tests that call a stage
themselves.
"""

from __future__ import annotations

RECORD = {
    "stage": "finetune",
    "settings_hash": "s",
    "code_version": "v",
    "code_fingerprint": "c",
    "inputs": {},
    "input_hashes": {},
}
