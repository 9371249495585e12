"""What a store is to answer, in a few lines, with time as something that tests say has passed."""

from dataclasses import dataclass


@dataclass
class Entry:
    """One key. `answer` is None until it is completed; `holder` is None once it is released."""

    request: str
    holder: bytes | None
    claimed_by: bytes
    attempt: int = 1
    lease_over: bool = False
    answer: bytes | None = None


class Reference:
    """Keys and their entries; leases and retentions end when told."""

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}

    def claim(self, key: int, request: str, claim_id: bytes) -> object:
        entry = self.entries.get(key)
        if entry is None:
            self.entries[key] = Entry(request, claim_id, claim_id)
            return "New", 1
        if entry.request != request:
            return "Mismatch"
        if entry.answer is not None:
            return "Done", entry.answer
        if entry.holder not in (None, claim_id) and not entry.lease_over:
            return "Busy"
        kind = "Owned" if entry.holder == claim_id else "Takeover"
        entry.attempt += kind == "Takeover"
        entry.holder, entry.claimed_by, entry.lease_over = claim_id, claim_id, False
        return "Poisoned" if entry.attempt > 3 else kind, entry.attempt

    def complete(self, key: int, claim_id: bytes, answer: bytes) -> object:
        entry = self.entries.get(key)
        if entry is not None and entry.answer is None and entry.holder == claim_id:
            entry.answer = answer
        if entry is None or entry.answer is None:
            return "Lost"
        return "Committed" if entry.claimed_by == claim_id else ("LostDone", entry.answer)

    def holds(self, key: int, claim_id: bytes) -> bool:
        entry = self.entries.get(key)
        return entry is not None and entry.answer is None and entry.holder == claim_id
