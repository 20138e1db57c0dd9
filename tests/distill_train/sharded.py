"""The command line where accelerate shards on CPUs too: it offers that for accelerators alone, torch for both."""

import sys

from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from understudy.cli import main

start = AcceleratorState.__init__


def start_sharded(self, *args, fsdp_plugin=None, **kwargs):
    start(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    self.distributed_type = DistributedType.FSDP
    if fsdp_plugin is not None:
        self.fsdp_plugin = fsdp_plugin


AcceleratorState.__init__ = start_sharded

if __name__ == "__main__":
    sys.exit(main())
