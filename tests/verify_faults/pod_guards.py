"""Guards of steps that run as pods."""

from tests.verify_faults.guards import Guard

_OPERATOR = "llambert_etl/orchestration/kubernetes.py"
_END = "llambert_etl/orchestration/pod_end.py"
_PODS = "tests/dags/test_pods.py::test_"
_TRIES = "tests/dags/test_pod_tries.py::test_"

GUARDS = (
    Guard(
        "a step that was asked to stop goes no further",
        _OPERATOR,
        "if self._killed and self.pod:",
        "if False:",
        _TRIES + "a_try_that_is_asked_to_stop_while_its_pod_is_made_leaves_none",
    ),
    Guard(
        "a pod counts as done by its container's exit code",
        _END,
        "if state and state.exit_code == 0 and (message_of(pod) or not disturbed):",
        "if state or disturbed:",
        _PODS + "exit_code_of_a_pod_becomes_the_same_error_as_that_of_a_process",
    ),
    Guard(
        "which pod it is stands in the store before it is made",
        _OPERATOR,
        "        store.set(STORE_KEY, stored)\n",
        "",
        _TRIES + "a_try_whose_process_is_killed_at_any_request_is_gone_on_with",
    ),
    Guard(
        "a foreign pod of the same name is left alone",
        _OPERATOR,
        'if stored.get("uid", pod.metadata.uid) != pod.metadata.uid or',
        "if",
        _TRIES + "foreign_pod_of_the_same_name_is_left_alone",
    ),
    Guard(
        "a cleared task starts again",
        _OPERATOR,
        'if stored["max_tries"] != self._stored(pod, context)["max_tries"]:',
        "if False:",
        _TRIES + "cleared_task_starts_again_and_deletes_the_pod_of_before",
    ),
    Guard(
        "a pod that is being deleted is not gone on with",
        _OPERATOR,
        "if pod.metadata.deletion_timestamp and not (ended(pod) and failure_of(pod) is None):",
        "if False:",
        _TRIES + "pod_that_is_being_deleted_is_not_gone_on_with",
    ),
    Guard(
        "a trigger's row holds no secret of the connection",
        _OPERATOR,
        "            kubernetes_conn_id=self.kubernetes_conn_id,\n",
        "            connection_extras=self.hook.conn_extras,\n",
        _PODS + "trigger_that_waits_holds_no_secret_of_the_connection",
    ),
    Guard(
        "no task goes on before the scheduler has heard that it waits",
        "llambert_etl/orchestration/pod_trigger.py",
        "        await asyncio.sleep(_HEARD_SECONDS)\n",
        "",
        _PODS + "a_task_does_not_go_on_before_airflow_has_heard_that_it_waits",
    ),
    Guard(
        "the cluster ends a pod that Airflow has forgotten",
        "llambert_etl/orchestration/pod_spec.py",
        '        "active_deadline_seconds": pod.deadline_seconds,\n',
        "",
        "tests/dags/test_kubernetes.py::test_cluster_ends_a_pod_that_airflow_has_forgotten",
    ),
)
