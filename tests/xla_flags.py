"""How XLA compiles for the tests, whose time is spent on compiling.

Two devices, so that whatever shards is tested sharded. LLVM leaves the code as it comes, and gets it from the older
emitters in one piece: the same arithmetic up to the last bits, in half the time. XLA ends a process that names a flag
it does not know, so those two are given to the release alone with which they were tried.
"""

import importlib.metadata

FLAGS = ["--xla_force_host_platform_device_count=2", "--xla_backend_optimization_level=0"]
if importlib.metadata.version("jaxlib").startswith("0.10."):
    FLAGS += ["--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"]
