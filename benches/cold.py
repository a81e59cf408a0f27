"""File systems of benches/compare on which nothing is in memory before a run."""
import os
import shutil
import tempfile
from pathlib import Path

from instruments import Ext4, do


class ColdExt4(Ext4):
    """The same with cold caches. The image is in memory, so a read costs a copy and no wait."""

    name = "ext4, cold"

    def make(self, recipe):
        built = super().make(recipe)
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3")
        return built


class ColdDisk(ColdExt4):
    """The same on an image that lies on a disk, so that reads wait for it."""

    name = "ext4 on a disk, cold"
    PLACE = "/var/tmp"

    def __init__(self, builder):
        super().__init__(Path(tempfile.mkdtemp(prefix="sweeper-compare-", dir=self.PLACE)), builder)

    @classmethod
    def why_not(cls):
        where = do("stat", "-f", "-c", "%T", cls.PLACE).strip()
        return Ext4.why_not() or (f"{cls.PLACE} is not on a disk" if where in ("tmpfs", "ramfs") else None)

    def mount_image(self, image, options):
        # The cache of the file system that the image lies on is left out.
        device = do("losetup", "-f", "--show", "--direct-io=on", image).strip()
        try:
            do("mount", "-o", options, device, self.mount)
        finally:
            # It is detached when it is no longer mounted.
            do("losetup", "-d", device)

    def close(self):
        super().close()
        shutil.rmtree(self.scratch, ignore_errors=True)
