"""What users' programs do with marathon-python, against a cluster of two nodes."""

import collections
import collections.abc
import sys
import time

# The library's last release is older than Python 3.10, which took this name away.
collections.Iterable = collections.abc.Iterable

from marathon import MarathonClient, MarathonHttpError, NotFoundError
from marathon.models import MarathonApp, MarathonConstraint, MarathonHealthCheck

# Ends when it is told to, as the first process of a container does only if it says so.
COMMAND = "trap exit TERM; sleep 100000 & wait"

client = MarathonClient(sys.argv[1])


def wait(what, condition):
    began = time.monotonic()
    while time.monotonic() < began + 90:
        if condition():
            print(f"{what}: {time.monotonic() - began:.1f} s")
            return
        time.sleep(0.1)
    raise SystemExit(f"waited in vain for {what}: {client.list_apps(embed_tasks=True)}")


def running(count):
    app = client.get_app("/py/sleep")
    return not app.deployments and app.tasks_running == count and len(client.list_tasks("/py/sleep")) == count


assert b"pong" in client.ping()
assert client.get_info().version
assert client.get_leader()["leader"] == "10.0.15.10:8080"
assert client.list_apps() == []

created = client.create_app(
    "/py/sleep",
    MarathonApp(
        cmd=COMMAND,
        cpus=0.05,
        mem=16,
        instances=1,
        labels={"made-by": "python"},
        constraints=[MarathonConstraint(field="hostname", operator="GROUP_BY", value="2")],
        health_checks=[
            MarathonHealthCheck(
                protocol="COMMAND",
                command="true",
                delay_seconds=0,
                grace_period_seconds=5,
                interval_seconds=1,
                timeout_seconds=5,
                max_consecutive_failures=3,
            )
        ],
    ),
)
assert created.id == "/py/sleep" and created.instances == 1
wait("the app to run", lambda: running(1))
wait("it to be healthy", lambda: client.get_app("/py/sleep").tasks_healthy == 1)
assert [app.id for app in client.list_apps()] == ["/py/sleep"]
assert client.list_apps(label="made-by==python")
app = client.get_app("/py/sleep", embed_tasks=True)
assert app.labels == {"made-by": "python"} and app.cmd == COMMAND
assert app.tasks[0].host in ("10.0.15.11", "10.0.15.12")
assert app.constraints[0].operator == "GROUP_BY"

client.scale_app("/py/sleep", instances=3)
wait("three", lambda: running(3))
client.scale_app("/py/sleep", delta=-1)
wait("two", lambda: running(2))
assert len({task.host for task in client.list_tasks("/py/sleep")}) == 2

before = {task.id for task in client.list_tasks("/py/sleep")}
victim = sorted(before)[0]
client.kill_task("/py/sleep", victim)
wait("a replacement", lambda: running(2) and victim not in {task.id for task in client.list_tasks("/py/sleep")})
client.kill_given_tasks([sorted(task.id for task in client.list_tasks("/py/sleep"))[0]], scale=True)
wait("one", lambda: running(1) and client.get_app("/py/sleep").instances == 1)

versions = client.list_versions("/py/sleep")
deployment = client.update_app("/py/sleep", MarathonApp(cmd=COMMAND + " # another"))
assert deployment["deploymentId"]
wait("the new command", lambda: running(1))
assert client.get_app("/py/sleep").cmd == COMMAND + " # another"
assert len(client.list_versions("/py/sleep")) == len(versions) + 1
older = client.get_version("/py/sleep", client.list_versions("/py/sleep")[-1])
assert older.cmd == COMMAND, older

task = client.list_tasks("/py/sleep")[0].id
client.restart_app("/py/sleep")
wait("a restart", lambda: running(1) and client.list_tasks("/py/sleep")[0].id != task)
assert client.list_deployments() == []

assert client.list_queue() == []
client.create_app("/py/big", MarathonApp(cmd="true", cpus=0.1, mem=9_000_000))
wait("the queue", lambda: [item.app.id for item in client.list_queue()] == ["/py/big"])
held = client.list_deployments()[0]
assert held.affected_apps == ["/py/big"], held
client.delete_deployment(held.id, force=True)
client.delete_app("/py/big", force=True)

try:
    client.create_app("/py/sleep", MarathonApp(cmd="true"))
    raise SystemExit("an app was created twice")
except MarathonHttpError as error:
    assert error.status_code == 409, error
client.delete_app("/py/sleep")
wait("all to be gone", lambda: client.list_apps() == [] and client.list_tasks() == [])
try:
    client.get_app("/py/sleep")
    raise SystemExit("a deleted app is still there")
except NotFoundError:
    pass
print("marathon-python is content")
