//! Answers as clients of both generations read them.

use std::sync::Arc;

use marathon::query::{Filter, Selector};
use marathon::render::{
    self, AppView, Counts, DeploymentView, FailureView, InfoView, Offers, QueueView, Rejection,
    TaskState, TaskView, UnusedOffer,
};
use model::deployment::{Action, Deployment, Step};
use model::instance::{Exit, ExitStatus, Goal, Health, Instance, Placement, Rung, StopCause};
use model::machine::{NodeRecord, Presence, Resources};
use model::spec::AppSpec;
use model::state::Failure;
use model::{ClusterId, DeploymentId, InstanceId, Millis, NodeId, Time};
use serde_json::{Value, json};

use crate::common::{id, machine, merged, wild};

const NOW: Time = Time(1_795_263_726_218);

fn node() -> NodeRecord {
    NodeRecord {
        id: NodeId(1),
        machine: machine().into(),
        overlay: [10, 32, 0, 2].into(),
        presence: Presence::Here,
        draining: false,
        room: None,
        joined: NOW,
        sighted: Default::default(),
        used: Resources::default(),
        instances: Default::default(),
        ports: Default::default(),
        fingerprint: 0,
    }
}

fn instance(app: &str, spec: &AppSpec, host_ports: &[u16]) -> Instance {
    Instance {
        id: InstanceId { birth: 7, slot: 3 },
        app: id(app),
        app_slot: 0,
        slot: 0,
        version: NOW,
        spec: Arc::new(spec.clone()),
        placement: Placement {
            node: NodeId(1),
            address: Some([10, 32, 0, 9].into()),
            fixed_addresses: Vec::new(),
            host_ports: host_ports.to_vec(),
        },
        goal: Goal::Run,
        rung: Rung::Running,
        health: Health::Healthy,
        detail: None,
        exit: None,
        placed_at: NOW,
        running_at: Some(NOW + Millis(500)),
        ended_at: None,
        health_at: Some(NOW + Millis(900)),
        sighted: Default::default(),
    }
}

fn view<'a>(id: &'a model::AppId, spec: &'a AppSpec) -> AppView<'a> {
    AppView {
        id,
        spec,
        version: NOW,
        last_scaling: NOW,
        last_config_change: NOW,
        counts: Counts {
            running: 1,
            healthy: 1,
            ..Counts::default()
        },
        deployments: vec!["d-1".to_owned()],
        tasks: None,
        last_task_failure: None,
        task_stats: None,
        readiness: false,
    }
}

fn canonical() -> AppSpec {
    let body = json!({
        "cmd": "serve", "user": "www", "env": {"A": "b"}, "labels": {"l": "m"},
        "networks": [{"mode": "container", "name": "dcos"}],
        "container": {"type": "MESOS", "docker": {"image": "web:1"},
            "portMappings": [{"containerPort": 80, "hostPort": 0, "servicePort": 10_001,
                "name": "http", "labels": {"VIP_0": "/web:80"}},
                {"containerPort": 81, "servicePort": 10_002}],
            "volumes": [{"containerPath": "/x", "mode": "RO", "external":
                {"name": "v", "provider": "dvdi", "size": 1}}]},
        "healthChecks": [{"path": "/up"}],
        "constraints": [["rack", "GROUP_BY", "2"]],
        "taskKillGracePeriodSeconds": 3,
        "cpus": 0.5,
    });
    merged("/shop/web", None, &body.to_string()).unwrap()
}

#[test]
fn a_legacy_app_looks_the_same_to_both_generations() {
    let (id, spec) = (id("/myapp"), wild("/myapp", "start_myapp.json"));
    let mut app = view(&id, &spec);
    app.tasks = Some(vec![TaskView::of(
        &instance("/myapp", &spec, &[31_005]),
        &node(),
    )]);
    let golden: Value = serde_json::from_str(include_str!("../golden/legacy.json")).unwrap();
    assert_eq!(render::value(&app), golden, "{:#}", render::value(&app));
}

#[test]
fn a_canonical_app_with_all_that_was_asked_to_be_embedded() {
    let (id, spec) = (id("/shop/web"), canonical());
    let task = TaskView::of(&instance("/shop/web", &spec, &[31_000, 0]), &node());
    let tasks = vec![task];
    let mut app = view(&id, &spec);
    app.task_stats = Some(render::task_stats(
        &tasks,
        NOW,
        NOW,
        NOW + Millis::seconds(2),
    ));
    app.tasks = Some(tasks);
    app.readiness = true;
    app.last_task_failure = Some(FailureView::of(
        &id,
        &Failure {
            instance: InstanceId { birth: 6, slot: 3 },
            node: NodeId(1),
            hostname: "10.0.15.11".to_owned(),
            version: NOW,
            at: NOW,
            exit: Exit {
                status: ExitStatus::Code(3),
                out_of_memory: false,
                last_line: Some("no database".to_owned()),
            },
        },
        "n1",
    ));
    let golden: Value = serde_json::from_str(include_str!("../golden/canonical.json")).unwrap();
    assert_eq!(render::value(&app), golden, "{:#}", render::value(&app));
}

#[test]
fn the_four_places_of_ports_agree() {
    for (app, file) in crate::common::WILD {
        let shown = crate::common::rendered(app, &wild(app, file));
        let container = &shown["container"];
        assert_eq!(
            container["portMappings"], container["docker"]["portMappings"],
            "{file}"
        );
        let services = |list: &Value, key: &str| -> Vec<Value> {
            list.as_array()
                .unwrap()
                .iter()
                .map(|p| p[key].clone())
                .collect()
        };
        let ports = shown["ports"].as_array().unwrap();
        assert_eq!(
            &services(&shown["portDefinitions"], "port"),
            ports,
            "{file}"
        );
        assert_eq!(
            &services(&container["portMappings"], "servicePort"),
            ports,
            "{file}"
        );
    }
}

#[test]
fn integers_have_no_fraction_and_strict_clients_find_no_unknown_key() {
    let shown = crate::common::rendered("/shop/web", &canonical()).to_string();
    assert!(!shown.contains(".0,") && !shown.contains(".0}"), "{shown}");
    let host = merged("/x", None, r#"{"cmd": "x"}"#).unwrap();
    let shown = crate::common::rendered("/x", &host);
    for unknown in [
        "check",
        "tty",
        "executorResources",
        "resourceLimits",
        "ipAddress",
        "residency",
    ] {
        assert!(shown.get(unknown).is_none(), "{unknown}");
    }
    assert_eq!(shown["networks"], json!([{"mode": "host"}]));
    assert_eq!(
        (&shown["container"], &shown["args"], &shown["user"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
}

#[test]
fn a_rung_and_a_goal_have_one_mesos_state() {
    let spec = canonical();
    let mut one = instance("/x", &spec, &[]);
    let stop = Goal::Stop {
        cause: StopCause::Killed,
        grace: Millis(0),
    };
    let exit = |status| {
        Some(Exit {
            status,
            out_of_memory: false,
            last_line: None,
        })
    };
    let lost = Presence::Lost { since: NOW };
    let cases = [
        (
            Rung::Placed,
            Goal::Run,
            Presence::Here,
            None,
            "TASK_STAGING",
        ),
        (
            Rung::Preparing,
            Goal::Prepare,
            Presence::Here,
            None,
            "TASK_STAGING",
        ),
        (
            Rung::Starting,
            Goal::Run,
            Presence::Here,
            None,
            "TASK_STARTING",
        ),
        (
            Rung::Running,
            Goal::Run,
            Presence::Here,
            None,
            "TASK_RUNNING",
        ),
        (Rung::Running, stop, Presence::Here, None, "TASK_KILLING"),
        (
            Rung::Stopping,
            Goal::Run,
            Presence::Here,
            None,
            "TASK_KILLING",
        ),
        (Rung::Running, Goal::Run, lost, None, "TASK_UNREACHABLE"),
        (Rung::Ended, stop, Presence::Here, None, "TASK_KILLED"),
        (
            Rung::Ended,
            Goal::Run,
            Presence::Here,
            exit(ExitStatus::Code(0)),
            "TASK_FINISHED",
        ),
        (
            Rung::Ended,
            Goal::Run,
            lost,
            exit(ExitStatus::Code(1)),
            "TASK_FAILED",
        ),
        (
            Rung::Ended,
            Goal::Run,
            Presence::Here,
            exit(ExitStatus::Signal(9)),
            "TASK_FAILED",
        ),
        (
            Rung::Ended,
            Goal::Run,
            Presence::Here,
            exit(ExitStatus::NeverRan("x".into())),
            "TASK_FAILED",
        ),
        (
            Rung::Gone,
            Goal::Run,
            Presence::Here,
            exit(ExitStatus::Unknown),
            "TASK_LOST",
        ),
    ];
    for (rung, goal, presence, exit, expected) in cases {
        (one.rung, one.goal, one.exit) = (rung, goal, exit);
        assert_eq!(TaskState::of(&one, presence).name(), expected, "{rung:?}");
    }
}

#[test]
fn tasks_as_text_feed_a_proxy() {
    let (app, spec) = (id("/shop/web"), wild("/myapp", "start_myapp.json"));
    let none = merged("/bare", None, r#"{"cmd": "x", "ports": []}"#).unwrap();
    let bare = id("/bare");
    let running = TaskView::of(&instance("/shop/web", &spec, &[31_005]), &node());
    let mut staging = running.clone();
    staging.state = TaskState::Staging;
    let tasks = [running.clone(), staging];
    let text = render::tasks_text([(&app, &spec, &tasks[..]), (&bare, &none, &tasks[..1])]);
    assert_eq!(
        text,
        "shop_web\t10000\t10.0.15.11:31005\t\nbare\t \t10.0.15.11\t\n"
    );
}

#[test]
fn an_unpublished_port_is_reached_at_the_tasks_own_address() {
    let (app, spec) = (id("/shop/web"), canonical());
    let task = TaskView::of(&instance("/shop/web", &spec, &[31_000, 0]), &node());
    let text = render::tasks_text([(&app, &spec, &[task][..])]);
    assert_eq!(
        text,
        "shop_web\t10001\t10.0.15.11:31000\t\nshop_web\t10002\t10.32.0.9:81\t\n"
    );
}

#[test]
fn deployments_queue_and_info_have_marathons_shapes() {
    let step = |action| Step {
        actions: vec![(id("/a"), action)],
    };
    let deployment = Deployment {
        id: DeploymentId(4),
        version: NOW,
        began: NOW,
        steps: vec![step(Action::Start), step(Action::Scale)],
        current: 1,
        before: vec![(id("/a"), None)],
    };
    let cluster = ClusterId(9);
    let uuid = DeploymentId(4).uuid(cluster);
    assert_eq!(
        render::value(&DeploymentView::of(&deployment, cluster)),
        json!({
            "id": uuid, "version": NOW.to_string(),
            "affectedApps": ["/a"], "affectedPods": [],
            "steps": [
                {"actions": [{"action": "StartApplication", "app": "/a"}]},
                {"actions": [{"action": "ScaleApplication", "app": "/a"}]},
            ],
            "currentActions":
                [{"action": "ScaleApplication", "app": "/a", "readinessCheckResults": []}],
            "currentStep": 2, "totalSteps": 2,
        })
    );
    assert_eq!(
        render::deployment_result(NOW, &uuid),
        json!({"version": NOW.to_string(), "deploymentId": uuid})
    );

    let (app, spec) = (id("/shop/web"), canonical());
    let queue = render::value(&QueueView {
        id: &app,
        spec: &spec,
        version: NOW,
        count: 2,
        since: NOW,
        time_left: Millis(1500),
        offers: Offers {
            processed: 3,
            unused: 3,
            last_unused_at: Some(NOW),
            last_used_at: None,
            rejections: vec![Rejection {
                reason: "InsufficientMemory".to_owned(),
                declined: 3,
                processed: 3,
            }],
        },
        last_unused_offers: Some(vec![UnusedOffer {
            agent: "n1".to_owned(),
            hostname: "10.0.15.11".to_owned(),
            resources: [("mem".to_owned(), 64.0)].into(),
            attributes: [("disk".to_owned(), "ssd".to_owned())].into(),
            reasons: vec!["InsufficientMemory".to_owned()],
            timestamp: NOW,
        }]),
    });
    assert_eq!(
        queue["delay"],
        json!({"timeLeftSeconds": 2, "overdue": false})
    );
    assert_eq!(queue["app"]["id"], "/shop/web");
    assert_eq!(queue["processedOffersSummary"]["unusedOffersCount"], 3);
    assert_eq!(
        queue["lastUnusedOffers"][0]["reason"],
        json!(["InsufficientMemory"])
    );
    assert!(queue.get("role").is_none());

    let info = render::value(&InfoView {
        framework_id: "f".to_owned(),
        leader: "10.0.15.10:8080".to_owned(),
        elected: true,
        hostname: "10.0.15.10".to_owned(),
        http_port: 8080,
        service_ports: (10_000, 20_000),
        build: "0.1.0".to_owned(),
    });
    let version: Vec<u32> = info["version"]
        .as_str()
        .unwrap()
        .split('.')
        .map(|part| part.parse().unwrap())
        .collect();
    assert!(version >= vec![1, 5]);
    assert_eq!(info["marathon_config"]["local_port_max"], 20_000);
}

#[test]
fn refusals_have_the_bodies_that_clients_read() {
    assert_eq!(
        render::no_app("/x", None),
        json!({"message": "App '/x' does not exist"})
    );
    let locked = render::locked(&["a".to_owned()]);
    assert_eq!(locked["deployments"], json!([{"id": "a"}]));
    assert!(
        locked["message"]
            .as_str()
            .unwrap()
            .contains("/v2/deployments/a")
    );
    assert_eq!(
        render::versions([Time(1000), Time(0)]),
        json!({"versions": ["1970-01-01T00:00:01.000Z", "1970-01-01T00:00:00.000Z"]})
    );
}

#[test]
fn filters_look_for_parts_in_any_case() {
    let (app, spec) = (id("/shop/web"), canonical());
    let filter = |cmd: Option<&str>, part: Option<&str>, label: Option<&str>| Filter {
        cmd: cmd.map(str::to_owned),
        id: part.map(str::to_owned),
        label: label.map(|text| Selector::parse(text).unwrap()),
    };
    assert!(Filter::default().matches(&app, &spec));
    assert!(filter(Some("SERV"), Some("WEB"), Some("l==m")).matches(&app, &spec));
    assert!(!filter(Some("serve"), Some("db"), None).matches(&app, &spec));
    assert!(!filter(Some("no"), None, None).matches(&app, &spec));
}
