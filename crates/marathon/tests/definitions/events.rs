//! What listeners are told, from one state to the next.

use std::sync::Arc;

use marathon::events::{Event, between};
use model::deployment::{Action, Deployment, Step};
use model::instance::{
    Exit, ExitStatus, Goal, Health, Placement, RecordedInstance, Rung, StopCause,
};
use model::{
    Change, ClusterId, DeploymentId, Epoch, Incarnation, InstanceId, InstanceLevel, Millis, NodeId,
    Presence, State, Time, Touched,
};
use serde_json::json;

use crate::common::{id, machine, merged};

const NOW: Time = Time(1_795_263_726_218);
const WEB: InstanceId = InstanceId { birth: 7, slot: 0 };

/// A cluster of one node that is followed.
struct Story {
    state: State,
    sequence: u64,
}

impl Story {
    fn begin() -> Self {
        let mut story = Self {
            state: State::default().at(NOW),
            sequence: 0,
        };
        story.tell([
            Change::Founded {
                cluster: ClusterId(42),
                settings: Default::default(),
            },
            Change::Led { epoch: Epoch(1) },
            Change::NodeJoined {
                node: NodeId(0),
                overlay: [10, 32, 0, 2].into(),
                machine: Box::new(machine()),
            },
        ]);
        story
    }

    /// What is told when these become durable together.
    fn events(&mut self, changes: impl IntoIterator<Item = Change>) -> Vec<Event> {
        let before = self.state.clone();
        let mut touched = Touched::default();
        for change in changes {
            touched.extend(self.state.apply(&change));
        }
        between(&before, &self.state, &touched)
    }

    /// Each event as its type and the one word that matters.
    fn tell(&mut self, changes: impl IntoIterator<Item = Change>) -> Vec<String> {
        let events = self.events(changes);
        events.iter().map(told).collect()
    }

    fn seen(&mut self, rung: Rung, health: Health, exit: Option<Exit>) -> Change {
        self.sequence += 1;
        Change::InstanceSeen {
            instance: WEB,
            sighted: (Incarnation(1), self.sequence),
            level: Box::new(InstanceLevel {
                rung,
                health,
                detail: None,
                exit,
            }),
        }
    }

    fn put(&self) -> Change {
        Change::AppPut {
            app: id("/shop/web"),
            spec: Arc::new(spec()),
            version: NOW,
            config: true,
        }
    }

    fn placed(&self) -> Change {
        Change::InstancePlaced {
            instance: Box::new(RecordedInstance {
                id: WEB,
                app: id("/shop/web"),
                app_slot: 0,
                slot: 0,
                version: NOW,
                spec: None,
                placement: Placement {
                    node: NodeId(0),
                    address: Some([10, 32, 0, 9].into()),
                    fixed_addresses: Vec::new(),
                    host_ports: vec![31_005],
                },
                goal: Goal::Run,
                rung: Rung::Placed,
                health: Health::Unknown,
                detail: None,
                exit: None,
                placed_at: NOW,
                running_at: None,
                ended_at: None,
                health_at: None,
                sighted: Default::default(),
            }),
        }
    }
}

fn told(event: &Event) -> String {
    let fields = [
        "taskStatus",
        "alive",
        "condition",
        "healthy",
        "appId",
        "groupId",
        "uri",
        "reason",
    ];
    let word = fields.iter().find_map(|name| event.body.get(name));
    let word = word.map(ToString::to_string).unwrap_or_default();
    format!("{} {}", event.kind, word.trim_matches('"'))
        .trim()
        .to_owned()
}

fn spec() -> model::AppSpec {
    merged("/shop/web", None, r#"{"cmd":"serve","ports":[0]}"#).unwrap()
}

fn stop(cause: StopCause) -> Change {
    Change::InstanceGoal {
        instance: WEB,
        goal: Goal::Stop {
            cause,
            grace: Millis(0),
        },
    }
}

fn began(deployment: u64, actions: &[Action]) -> Change {
    let step = |action: &Action| Step {
        actions: vec![(id("/shop/web"), *action)],
    };
    Change::DeploymentBegan {
        deployment: Box::new(Deployment {
            id: DeploymentId(deployment),
            version: NOW,
            began: NOW,
            steps: actions.iter().map(step).collect(),
            current: 0,
            before: vec![(id("/shop/web"), None)],
        }),
    }
}

fn over(deployment: u64, broken: bool) -> Change {
    Change::DeploymentEnded {
        deployment: DeploymentId(deployment),
        broken,
    }
}

fn exit(code: i32) -> Option<Exit> {
    Some(Exit {
        status: ExitStatus::Code(code),
        out_of_memory: false,
        last_line: None,
    })
}

const FIRST: u64 = 1 << 32;

#[test]
fn an_app_s_life_is_told_in_its_order() {
    let mut story = Story::begin();
    let put = [story.put(), began(FIRST, &[Action::Start, Action::Scale])];
    assert_eq!(
        story.tell(put),
        [
            "api_post_event /v2/apps/shop/web",
            "group_change_success /shop",
            "deployment_info",
        ]
    );
    let step = Change::DeploymentStepped {
        deployment: DeploymentId(FIRST),
        current: 1,
    };
    assert_eq!(
        story.tell([step, story.placed()]),
        [
            "status_update_event TASK_STAGING",
            "instance_changed_event Staging",
            "deployment_step_success",
            "deployment_info",
        ]
    );
    // A rung may be skipped; the same level is told once.
    let running = story.seen(Rung::Running, Health::Unknown, None);
    let status = [
        "status_update_event TASK_RUNNING",
        "instance_changed_event Running",
    ];
    assert_eq!(story.tell([running]), status);
    let healthy = story.seen(Rung::Running, Health::Healthy, None);
    assert_eq!(
        story.tell([healthy, over(FIRST, false)]),
        [
            "health_status_changed_event true",
            "instance_health_changed_event true",
            "deployment_step_success",
            "deployment_success",
        ]
    );
    let lost = Change::NodePresence {
        node: NodeId(0),
        presence: Presence::Lost { since: NOW },
    };
    assert_eq!(
        story.tell([lost]),
        [
            "status_update_event TASK_UNREACHABLE",
            "instance_changed_event Unreachable",
        ]
    );
    let here = Change::NodePresence {
        node: NodeId(0),
        presence: Presence::Here,
    };
    assert_eq!(story.tell([here]), status);

    let removing = Change::AppRemoving {
        app: id("/shop/web"),
    };
    let removal = [removing, began(FIRST + 1, &[Action::Stop])];
    assert_eq!(
        story.tell(removal),
        ["group_change_success /shop", "deployment_info"]
    );
    assert_eq!(
        story.tell([stop(StopCause::AppRemoved)]),
        [
            "status_update_event TASK_KILLING",
            "instance_changed_event Killing",
        ]
    );
    let ended = story.seen(Rung::Ended, Health::Unknown, exit(143));
    let gone = Change::InstanceGone { instance: WEB };
    let removed = Change::AppRemoved {
        app: id("/shop/web"),
    };
    assert_eq!(
        story.tell([ended, gone, removed, over(FIRST + 1, false)]),
        [
            "status_update_event TASK_KILLED",
            "instance_changed_event Killed",
            "app_terminated_event /shop/web",
            "deployment_step_success",
            "deployment_success",
        ]
    );
}

#[test]
fn how_an_instance_ended_is_told_once() {
    let mut story = Story::begin();
    story.tell([story.put(), story.placed()]);
    let running = story.seen(Rung::Running, Health::Unknown, None);
    story.tell([running]);
    // The leader has it cleaned away in the same step: it failed all the same.
    let ended = story.seen(Rung::Ended, Health::Unknown, exit(7));
    let events = story.events([ended, stop(StopCause::Ended)]);
    let timestamp = NOW.to_string();
    assert_eq!(
        events[0].body,
        json!({
            "eventType": "status_update_event",
            "timestamp": timestamp,
            "slaveId": "n1",
            "taskId": WEB.task_id(&id("/shop/web")),
            "taskStatus": "TASK_FAILED",
            "message": "Container exited with status 7",
            "appId": "/shop/web",
            "host": "10.0.15.11",
            "ipAddresses": [{ "ipAddress": "10.32.0.9", "protocol": "IPv4" }],
            "ports": [31_005],
            "version": timestamp,
        })
    );
    assert_eq!(events.len(), 2);
    let gone = Change::InstanceGone { instance: WEB };
    assert_eq!(story.tell([gone]), [""; 0]);
}

#[test]
fn an_unhealthy_instance_s_end_has_its_reason() {
    let mut story = Story::begin();
    story.tell([story.put(), story.placed()]);
    let sick = story.seen(Rung::Running, Health::Unhealthy, None);
    assert_eq!(
        story.tell([sick, stop(StopCause::Unhealthy)]),
        [
            "unhealthy_instance_kill_event /shop/web",
            "status_update_event TASK_KILLING",
            "instance_changed_event Killing",
            "health_status_changed_event false",
            "instance_health_changed_event false",
        ]
    );
}

#[test]
fn every_deployment_s_end_is_told_also_of_one_that_no_state_shows() {
    let mut story = Story::begin();
    let forced = story.tell([story.put(), began(FIRST, &[Action::Start])]);
    assert_eq!(forced.last().map(String::as_str), Some("deployment_info"));
    let overtaken = [over(FIRST, true), began(FIRST + 1, &[Action::Scale])];
    let reason = "it was cancelled, or a forced change took its place";
    assert_eq!(
        story.tell(overtaken),
        [
            "deployment_info".to_owned(),
            format!("deployment_failed {reason}")
        ]
    );
    let short = [
        over(FIRST + 1, false),
        began(FIRST + 2, &[Action::Scale]),
        over(FIRST + 2, false),
    ];
    assert_eq!(
        story.tell(short),
        [
            "deployment_step_success",
            "deployment_success",
            "deployment_success",
        ]
    );
}
