"""Every picture of Pillow's own test suite, fed to the running house; `make corpus` fetches them.

They hold what broke decoders in fifteen years. The table says what became of them.
"""

import sys
import tarfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pictures
import pytest
from feeding import CONTENT_TYPE, feed
from house import Visitor

pytestmark = pytest.mark.heavy

SECONDS = 5
MEGABYTES = 512

SOURCE = Path(sys.prefix) / "corpus"


@dataclass(frozen=True)
class File:
    name: str
    data: bytes

    @property
    def disposition(self):
        return b'form-data; name="images"; filename="%s"' % self.name.encode()


def images():
    """All files of Tests/images, each content once."""
    (archive,) = SOURCE.glob("pillow-*.tar.gz")
    found = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and "/Tests/images/" in member.name:
                data = tar.extractfile(member).read()
                found.setdefault(data, member.name.partition("/Tests/images/")[2])
    return [File(name.replace("/", "-"), data) for data, name in found.items()]


@pytest.mark.skipif(not SOURCE.is_dir(), reason="make corpus fetches the pictures")
def test_all_of_pillows_test_pictures(house, capsys):
    visitor = Visitor(house)

    def post(body):
        headers = visitor.headers | {"Content-Type": CONTENT_TYPE}
        return house.http.request("POST", f"{house.url}/images", body=body, headers=headers)

    files = images()
    pids = {name: process.pid for name, process in house.processes.items()}
    fed = feed(files, post=post, house=house)
    good = [File(name, path.read_bytes()) for name, path in pictures.PHOTOS.items()]
    after = feed(good, post=post, house=house)
    with capsys.disabled():
        print(table(fed))
    assert len(files) > 1000
    assert {name: process.pid for name, process in house.processes.items()} == pids
    assert not [each for each in house.processes.values() if each.poll() is not None]
    assert {each.outcome for each in after} == {"ready"}
    broken = [(each.file.name, each.outcome) for each in fed if each.outcome[0] in "5?"]
    assert not broken
    assert max(each.processor for each in fed) < SECONDS
    assert max(each.megabytes for each in fed) <= MEGABYTES


def table(fed):
    lines = [f"{len(fed)} files"]
    counts = Counter(each.outcome for each in fed)
    lines += [f"{count:6} {outcome}" for outcome, count in counts.most_common()]
    slowest = sorted(fed, key=lambda each: -each.seconds)[:5]
    lines += [f"{each.seconds:6.2f} s {each.file.name}" for each in slowest]
    largest = min(fed, key=lambda each: (-each.megabytes, each.seconds))
    lines.append(f"{largest.megabytes:6} MB, the largest decoder")
    ours = ("jpg", "jpeg", "png", "apng", "webp", "mpo")
    lines.append("refused by a name of ours:")
    lines += [
        f"       {each.file.name}: {each.words}"
        for each in fed
        if each.outcome != "ready" and each.file.name.rpartition(".")[2].lower() in ours
    ]
    return "\n" + "\n".join(lines)
