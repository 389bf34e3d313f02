"""What may befall a step that runs as a pod, and how each must end."""

import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from kubernetes.client import ApiException

from laptop.airflow_client import Run
from llambert_etl.errors import LlambertError
from tests.verify_kubernetes.cluster import until
from tests.verify_kubernetes.world import World

MANIFEST = {"step": "train", "facts": {"model_version": 7}}
LEAVE = """echo '{"step": "train", "facts": {"model_version": 7}}' > /dev/termination-log"""
FIRST_TRY = '[ "$1" = 1 ] && {{ echo {said} > /dev/termination-log; exit {code}; }}; '
CONFINED = """
fail() { echo "$1" > /dev/termination-log; exit 65; }
[ "$(id -u)" = 10001 ] || fail "runs as $(id -u)"
touch /anywhere 2> /dev/null && fail "can write to its root"
[ -e /var/run/secrets/kubernetes.io ] && fail "has a token of the cluster"
grep -q 'NoNewPrivs:.1' /proc/self/status || fail "may gain privileges"
grep -q 'CapEff:.0000000000000000' /proc/self/status || fail "has capabilities"
grep -q 'Seccomp:.2' /proc/self/status || fail "is not under seccomp"
touch /tmp/here /dev/shm/here || fail "has no scratch"
[ -s /run/secrets/llambert/CANARY ] || fail "has no secret"
"""

_GONE_SECONDS = 150.0


def work(seconds: int) -> str:
    """Return a script that works so long and is asked to stop as `llambert` is: it ends with 75 and a reason."""
    stop = "trap 'echo asked to stop > /dev/termination-log; exit 75' TERM; echo working; "
    return f"{stop}i=0; while [ $i -lt {2 * seconds} ]; do sleep 0.5 & wait $!; i=$((i+1)); done; {LEAVE}"


class Scenario(NamedTuple):
    """`pods` is how many the run has had; `words` stand in the log of the first try.

    Where `state` is not an end, the run is ended by hand once its first try has come to it.
    """

    name: str
    kind: str
    script: str
    happens: Callable[[World, Run], object] = lambda world, run: None
    state: str = "success"
    tries: int = 1
    pods: int = 1
    words: tuple[str, ...] = ()


def _at(phase: str, act: Callable[[World, Run, Any], object]) -> Callable[[World, Run], object]:
    """Return what waits for the run's pod to have the phase, and does something then."""
    return lambda world, run: act(world, run, world.cluster.pod(run.run_id, phase))


def _signalled(number: signal.Signals) -> Callable[[World, Run], object]:
    return _at("Running", lambda world, run, pod: world.signal_task(run, number))


def _foreign(world: World, run: Run) -> None:
    """The task's process is killed; then somebody deletes its pod and makes another of the same name."""
    pod = world.cluster.pod(run.run_id, "Running")
    world.signal_task(run, signal.SIGKILL)
    world.wait_state(run, "up_for_retry")
    world.cluster.delete(pod.metadata.name)
    until("its end", lambda: not world.cluster.pods(run.run_id), 120)
    world.cluster.stranger(pod)


def _strangers_stay(world: World, run: Run) -> None:
    _foreign(world, run)
    world.wait_state(run, "success")
    assert world.cluster.strangers(), "the foreign pod was deleted"


def _deferred(act: Callable[[World, Run], object]) -> Callable[[World, Run], object]:
    def happens(world: World, run: Run) -> None:
        world.cluster.pod(run.run_id, "Running")
        world.wait_state(run, "deferred")
        # Before the triggerer has it there is nobody to tell it that its task was ended.
        until("the triggerer to have it", lambda: "Checking pod" in world.log(run))
        act(world, run)

    return happens


def _logged(world: World, run: Run) -> None:
    until("the pod's log", lambda: "[base] working" in world.log(run), 120)
    assert world.step(run)["state"] == "deferred", "the log came when the pod had ended"


def _api_restart(world: World, run: Run) -> None:
    world.cluster.pod(run.run_id, "Running")
    subprocess.run(world.api_restart, shell=True, check=True)  # noqa: S602 - the command of whoever runs the suite


def _cordoned(world: World, run: Run) -> None:
    with world.cluster.cordoned():
        late = world.client.trigger("deferred", None, {"script": LEAVE})
        world.cluster.pod(late.run_id, "Pending")
        time.sleep(10)
        world.cluster.pod(late.run_id, "Pending")
    world.wait_state(late, "success")


TOGETHER = [
    Scenario("undisturbed, deferred", "deferred", work(5)),
    Scenario("undisturbed, held", "held", work(5)),
    Scenario("its log arrives while it is deferred", "deferred", work(120), _deferred(_logged)),
    Scenario("confined", "deferred", CONFINED + LEAVE),
    Scenario("exit 1", "deferred", FIRST_TRY.format(said="a bug", code=1) + LEAVE, tries=2, pods=2, words=("a bug",)),
    Scenario("exit 65", "deferred", FIRST_TRY.format(said="bad rows", code=65), state="failed", words=("bad rows",)),
    Scenario("exit 75", "held", FIRST_TRY.format(said="busy", code=75) + LEAVE, tries=2, pods=2, words=("busy",)),
    Scenario("exit 78", "held", FIRST_TRY.format(said="no setting", code=78), state="failed", words=("no setting",)),
    Scenario(
        "out of memory",
        "small",
        "tail /dev/zero",
        state="failed",
        words=("needed more memory than its limit of 64Mi", "LLAMBERT_KUBERNETES__MEMORY"),
    ),
    Scenario(
        "missing image",
        "absent",
        LEAVE,
        state="up_for_retry",
        words=("no image 'registry.invalid/absent:1'", "LLAMBERT_KUBERNETES__IMAGE"),
    ),
    Scenario(
        "a GPU that never becomes free",
        "crowded",
        LEAVE,
        state="up_for_retry",
        words=("no node had room for it", "Insufficient nvidia.com/gpu", "LLAMBERT_KUBERNETES__SCHEDULE_SECONDS"),
    ),
    Scenario(
        "missing secret",
        "secretless",
        LEAVE,
        state="up_for_retry",
        words=("did not start on its node", "no-such-secret", "LLAMBERT_KUBERNETES__STARTUP_SECONDS"),
    ),
    Scenario(
        "longer than its deadline",
        "brief",
        work(120),
        state="up_for_retry",
        words=("ran longer than 10 s", "LLAMBERT_KUBERNETES__DEADLINE_SECONDS"),
    ),
    Scenario(
        "scratch volume full",
        "full",
        f"dd if=/dev/zero of=/tmp/much bs=1M count=50; {work(240)}",
        state="failed",
        words=("Evicted", "LLAMBERT_KUBERNETES__SCRATCH"),
    ),
    Scenario("SIGTERM of the task's process", "held", work(20), _signalled(signal.SIGTERM), tries=2, pods=2),
    Scenario("SIGKILL of it, the pod ends meanwhile", "held", work(20), _signalled(signal.SIGKILL), tries=2),
    Scenario("SIGKILL of it, the pod still runs", "held", work(100), _signalled(signal.SIGKILL), tries=2),
    Scenario("a foreign pod of its name", "held", work(20), _strangers_stay, tries=2, pods=2, words=()),
    *(
        Scenario(
            f"deleted from outside, {kind}",
            kind,
            work(30),
            _at("Running", lambda world, run, pod: world.cluster.delete(pod.metadata.name)),
            tries=2,
            pods=2,
        )
        for kind in ("deferred", "held")
    ),
    Scenario(
        "evicted by the API",
        "deferred",
        work(30),
        _at("Running", lambda world, run, pod: world.cluster.evict(pod.metadata.name)),
        tries=2,
        pods=2,
    ),
    Scenario(
        "preempted", "gpu", work(30), _at("Running", lambda world, run, pod: world.cluster.preempt()), tries=2, pods=2
    ),
    Scenario("marked failed, deferred", "deferred", work(200), _deferred(World.mark_failed), state="failed"),
    Scenario(
        "marked failed, held",
        "held",
        work(200),
        _at("Running", lambda world, run, pod: world.mark_failed(run)),
        state="failed",
    ),
    Scenario("cleared, deferred", "deferred", work(40), _deferred(World.clear), tries=2, pods=2),
    Scenario(
        "cleared, held", "held", work(40), _at("Running", lambda world, run, pod: world.clear(run)), tries=2, pods=2
    ),
    Scenario(
        "execution timeout, deferred", "timed", work(200), state="up_for_retry", words=("in the time that its task",)
    ),
    Scenario("execution timeout, held", "timed_held", work(200), state="up_for_retry", words=("AirflowTaskTimeout",)),
]
ALONE = [
    Scenario("SIGKILL of the triggerer", "deferred", work(40), _deferred(lambda world, run: world.kill_triggerer())),
    Scenario("node cordoned", "deferred", work(5), _cordoned),
    Scenario("API server restarted, deferred", "deferred", work(40), _api_restart),
    Scenario("API server restarted, held", "held", work(40), _api_restart),
]


def play(world: World, scenario: Scenario) -> dict[str, Any]:
    """Return what was seen, with the problems."""
    begun, problems = time.monotonic(), []
    run = world.client.trigger(scenario.kind, None, {"script": scenario.script})
    try:
        scenario.happens(world, run)
        ends = {scenario.state, "success", "failed"}
        if scenario.state == "success":
            world.client.wait(run, deadline=400)
        step = world.wait_state(run, *ends, deadline=400)
        log = world.log(run)
        if scenario.state == "up_for_retry" and step["state"] == "up_for_retry":
            world.mark_failed(run)
        until("the end of its pods", lambda: not world.cluster.pods(run.run_id), _GONE_SECONDS)
        found = {"state": step["state"], "tries": step["try_number"], "pods": len(world.cluster.started(run.run_id))}
        wanted = {"state": scenario.state, "tries": scenario.tries, "pods": scenario.pods}
        if found != wanted:
            problems.append(f"{found} and not {wanted}")
        problems += [f"the log lacks {words!r}" for words in scenario.words if words not in log]
        if scenario.state == "success" and world.manifest(run) != MANIFEST:
            problems.append("the manifest is not the step's")
    except (AssertionError, LlambertError, ApiException) as error:
        found = {"state": world.step(run)["state"]}
        problems.append(str(error))
    if problems:
        problems.append(f"log of the first try:\n{world.log(run)[-3000:]}")
    named = [f"{scenario.name}: {problem}" for problem in problems]
    return {"name": scenario.name, **found, "seconds": round(time.monotonic() - begun), "problems": named}
