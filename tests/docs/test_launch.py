"""The launch configurations that docs/distributed.md names are ones that accelerate reads."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import ClusterConfig
from accelerate.utils import DistributedType

DOCS = Path(__file__).parents[2] / "docs"
KINDS = {
    "ddp-8-gpus.yaml": DistributedType.MULTI_GPU,
    "fsdp2-8-gpus.yaml": DistributedType.FSDP,
    "zero3-8-gpus.yaml": DistributedType.DEEPSPEED,
}


@pytest.mark.parametrize("name", KINDS)
def test_accelerate_reads_it(name: str) -> None:
    config = ClusterConfig.from_yaml_file(str(DOCS / "launch" / name))
    assert (config.distributed_type, config.num_processes, config.num_machines) == (KINDS[name], 8, 1)
    if config.distributed_type == DistributedType.FSDP:
        assert config.fsdp_config["fsdp_version"] == 2
        assert config.fsdp_config["fsdp_cpu_ram_efficient_loading"] is False
    if config.distributed_type == DistributedType.DEEPSPEED:
        assert config.deepspeed_config["zero_stage"] == 3


def test_the_slurm_script_is_a_shell_script() -> None:
    subprocess.run(["bash", "-n", str(DOCS / "launch" / "two-nodes.slurm")], check=True)


def test_the_page_names_every_file_and_says_what_was_not_run() -> None:
    page = (DOCS / "distributed.md").read_text(encoding="utf-8")
    assert {*re.findall(r"docs/launch/([\w.-]+\w)", page)} == {path.name for path in (DOCS / "launch").iterdir()}
    for title in ("8 GPUs", "2 nodes", "vLLM as the generator"):
        assert f"# {title} (**not run**)" in page
