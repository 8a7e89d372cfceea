import pytest

from segjax.errors import InputError
from segjax.train.launch import Launch, find_launch

SLURM = {
    "SLURM_JOB_ID": "4097",
    "SLURM_STEP_NODELIST": "node[007-009,12],other",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_TASKS_PER_NODE": "1(x4)",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_MCA_orte_hnp_uri": "12288.0;tcp://10.96.0.1,10.148.0.1:34911",
}
JAX = {
    "JAX_COORDINATOR_ADDRESS": "node1:8476",
    "JAX_NUM_PROCESSES": "4",
    "JAX_PROCESS_ID": "1",
}
FLAGS = {"coordinator": "a:1", "num_processes": 2, "process_id": 0}


@pytest.mark.parametrize(
    ("flags", "environment", "expected"),
    [
        ({}, {}, None),
        (FLAGS, {}, Launch("a:1", 2, 0)),
        ({}, JAX, Launch("node1:8476", 4, 1)),
        (FLAGS, JAX, Launch("a:1", 2, 0)),
        ({"process_id": 3}, JAX, Launch("node1:8476", 4, 3)),
        ({"num_processes": 1}, {}, None),
        ({}, SLURM, Launch("node007:61441", 4, 2)),
        ({}, SLURM | {"SLURM_STEP_NODELIST": "a1,b2"}, Launch("a1:61441", 4, 2)),
        ({}, SLURM | {"SLURM_STEP_NODELIST": "alone"}, Launch("alone:61441", 4, 2)),
        ({}, SLURM | {"SLURM_STEP_NUM_TASKS": "1"}, None),
        ({"coordinator": "b:5"}, SLURM, Launch("b:5", 4, 2)),
        (
            {},
            SLURM | {"SLURM_STEP_TASKS_PER_NODE": "2(x2)", "SLURM_LOCALID": "1"},
            Launch("node007:61441", 4, 2, (1,)),
        ),
        (
            {},
            SLURM | {"SLURM_STEP_TASKS_PER_NODE": "2(x2)", "CUDA_VISIBLE_DEVICES": "1"},
            Launch("node007:61441", 4, 2),
        ),
        # An allocation without srun runs one process.
        ({}, {"SLURM_JOB_ID": "4097", "SLURM_NTASKS": "4"}, None),
        ({}, OPEN_MPI, Launch("10.96.0.1:61443", 4, 3, (1,))),
        ({}, OPEN_MPI | {"OMPI_COMM_WORLD_SIZE": "1"}, None),
        ({"coordinator": "b:5"}, OPEN_MPI | {"OMPI_MCA_orte_hnp_uri": ""}, Launch("b:5", 4, 3, (1,))),
        (
            {},
            {"JOB_COMPLETION_INDEX": "1", "JAX_COORDINATOR_ADDRESS": "j-0.s:1", "JAX_NUM_PROCESSES": "2"},
            Launch("j-0.s:1", 2, 1),
        ),
        # The pods of an Indexed Job may be runs of their own.
        ({}, {"JOB_COMPLETION_INDEX": "1"}, None),
    ],
)
def test_flags_come_before_variables_and_those_before_the_launcher(flags, environment, expected):
    assert find_launch(flags, environment) == expected
    assert find_launch(flags, environment, distributed=False) is None


@pytest.mark.parametrize(
    ("flags", "environment", "distributed", "message"),
    [
        ({}, {}, True, r"need --coordinator \(or JAX_COORDINATOR_ADDRESS\), --num_processes .*--process_id"),
        ({"coordinator": "a:1"}, {}, None, r"need --num_processes \(or JAX_NUM_PROCESSES\), --process_id"),
        (
            {},
            OPEN_MPI | {"OMPI_MCA_orte_hnp_uri": ""},
            None,
            r"need --coordinator \(or .*\): start them with srun",
        ),
        ({}, {"JOB_COMPLETION_INDEX": "0"}, True, "need --coordinator .*, --num_processes"),
        ({}, JAX | {"JAX_NUM_PROCESSES": "four"}, None, "JAX_NUM_PROCESSES=four is not an integer"),
        (FLAGS | {"coordinator": "node1"}, {}, None, "--coordinator=node1 is not HOST:PORT"),
        (FLAGS | {"process_id": 2}, {}, None, "--process_id=2 does not fit --num_processes=2: .* 0 to 1"),
    ],
)
def test_says_what_is_missing_or_wrong(flags, environment, distributed, message):
    with pytest.raises(InputError, match=message):
        find_launch(flags, environment, distributed=distributed)
