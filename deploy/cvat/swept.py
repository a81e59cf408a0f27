# CVAT's settings with the sweeper in place of CVAT's own cleaners: save this beside them as swept.py.
from importlib.util import find_spec

from cvat.settings.production import *

# The functions of those cleaners. The third one came after CVAT 2.73.
SWEPT = {"cleanup_export_cache_directory", "cleanup_tmp_directory", "cleanup_instance_tmp_directories"}
PERIODIC_RQ_JOBS = [job for job in PERIODIC_RQ_JOBS if str(job["func"]).rpartition(".")[2] not in SWEPT]

# manage.py exportcachecleanup, where the wheel is installed.
if find_spec("sweeper_django"):
    INSTALLED_APPS = [*INSTALLED_APPS, "sweeper_django"]
