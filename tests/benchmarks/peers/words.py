"""What both peers say of a picture: the same facts as i2i's cards, as short as they can be."""

import hashlib
from datetime import UTC, datetime

PAGE_SIZE = 24
MOST_COUNTED = 1000
WORKING = ("pending", "submitting", "processing", "storing")
SIZES = ("S", "M", "L")
TABS = [
    *(("All", ""), ("To review", "none"), ("Approved", "approved"), ("Rejected", "rejected")),
    *(("Failed", "failed"), ("Needs you", "unknown")),
]


def token_hash(token):
    return hashlib.sha256(token.encode()).digest()


def day(moment):
    moment, now = moment.astimezone(UTC), datetime.now(UTC)
    days = (now.date() - moment.date()).days
    if days < 2:
        return f"{('today', 'yesterday')[days]} {moment:%H:%M}"
    return f"{moment.day} {moment:%b}" + ("" if moment.year == now.year else f" {moment.year}")


def money(amount):
    return f"${amount:,.2f}"


def gigabytes(size):
    return f"{float(size) / 1e9:,.1f} GB"


def describe(job, *, submissions):
    """Glyph, tone, word, fact and charge of a picture; the money comes from its submissions."""
    charged = sum(each.cost or each.estimate for each in submissions if each.charged == "yes")
    charge = f"Charged {money(charged)}." if charged else "Not charged."
    if job.status == "completed" and job.verdict == "approved":
        return "approved", "ink", "Approved", day(job.verdict_at), charge
    if job.status == "completed" and job.verdict == "rejected":
        return "rejected", "ink", "Rejected", job.verdict_reason or "", charge
    if job.status == "completed":
        took = f"{round((job.processing_time_ms or 0) / 1000)} s"
        return "done", "ink", "Done", f"{took} · {money(charged)}" if charged else took, charge
    if job.status == "failed":
        return "failed", "red", "Failed", charge.rstrip(".").lower(), charge
    return "waiting", "quiet", job.status.capitalize(), "", charge


def halves(name):
    stem, dot, kind = name.rpartition(".")
    return (stem, dot + kind) if dot else (name, "")
