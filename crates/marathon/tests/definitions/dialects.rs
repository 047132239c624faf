//! The legacy dialect said in the canonical one, and updates laid over apps.

use crate::common::{id, merged, rendered, round_trip};
use marathon::{merge, parse_app, parse_apps, warnings};
use model::spec::{
    AppSpec, Command, Container, Engine, HostPort, KillSelection, MountSource, Network, Probe,
    ProbePort, Protocols, Unreachable, VolumeForm,
};
use model::{Millis, Quantity};
use serde_json::{Value, json};

fn spec(body: Value) -> AppSpec {
    let spec = merged("/shop/web", None, &body.to_string()).unwrap();
    round_trip("/shop/web", &spec);
    spec
}

fn updated(current: &AppSpec, body: Value) -> AppSpec {
    let spec = merged("/shop/web", Some(current), &body.to_string()).unwrap();
    round_trip("/shop/web", &spec);
    spec
}

fn docker(network: &str, rest: Value) -> Value {
    let mut docker = json!({"image": "nginx", "network": network});
    for (key, value) in rest.as_object().unwrap() {
        docker[key] = value.clone();
    }
    json!({"container": {"type": "DOCKER", "docker": docker}})
}

#[test]
fn an_app_without_anything_but_a_command_has_marathons_defaults() {
    let made = spec(json!({"id": "x", "cmd": "sleep 1"}));
    let mut expected = AppSpec {
        command: Command::Shell("sleep 1".to_owned()),
        ..AppSpec::default()
    };
    expected.ports = made.ports.clone();
    assert_eq!(made, expected);
    assert_eq!(made.ports[0].name.as_deref(), Some("default"));
    assert_eq!(made.ports[0].host, HostPort::Dynamic);
    assert!(
        spec(json!({"cmd": "x", "portDefinitions": []}))
            .ports
            .is_empty()
    );
    assert!(spec(json!({"cmd": "x", "ports": []})).ports.is_empty());
}

#[test]
fn legacy_networks_become_canonical_ones() {
    assert_eq!(spec(docker("HOST", json!({}))).network, Network::Host);
    assert_eq!(spec(docker("BRIDGE", json!({}))).network, Network::Bridge);
    let user = spec(docker("USER", json!({})));
    assert_eq!(user.network, Network::Container("tandem".to_owned()));
    assert_eq!(user.ports[0].host, HostPort::None);
    let mut named = docker("USER", json!({}));
    named["ipAddress"] = json!({"networkName": "dcos"});
    assert_eq!(spec(named).network, Network::Container("dcos".to_owned()));
    let alone = spec(json!({"cmd": "x", "ipAddress": {"discovery": {"ports":
        [{"number": 80, "name": "http", "protocol": "tcp"}]}}}));
    assert_eq!(alone.container, Container::Mesos);
    assert_eq!(alone.ports[0].container, 80);
    let canonical = spec(json!({
        "networks": [{"mode": "container/bridge"}],
        "container": {"type": "MESOS", "docker": {"image": "nginx"},
            "portMappings": [{"containerPort": 80, "protocol": "udp,tcp", "name": "web"}]},
    }));
    assert_eq!(canonical.image().unwrap().engine, Engine::Mesos);
    assert_eq!(canonical.ports[0].protocol, Protocols::Both);
    assert_eq!(canonical.ports[0].host, HostPort::Dynamic);
}

#[test]
fn legacy_mappings_move_up_and_are_padded_by_ports() {
    let mut body = docker("BRIDGE", json!({"portMappings": [{"containerPort": 80}]}));
    body["ports"] = json!([10_000, 10_001]);
    let made = spec(body);
    let services: Vec<u16> = made.ports.iter().map(|port| port.service).collect();
    let containers: Vec<u16> = made.ports.iter().map(|port| port.container).collect();
    assert_eq!((services, containers), (vec![10_000, 10_001], vec![80, 0]));
    let explicit = spec(json!({
        "networks": [{"mode": "container/bridge"}],
        "container": {"docker": {"image": "x"}, "portMappings": []},
    }));
    assert!(explicit.ports.is_empty());
}

#[test]
fn ports_on_the_host_are_service_ports_unless_they_are_required() {
    let loose = spec(json!({"cmd": "x", "ports": [9000, 0]}));
    assert_eq!(
        (loose.ports[0].service, loose.ports[0].host),
        (9000, HostPort::Dynamic)
    );
    let fixed = spec(json!({"cmd": "x", "requirePorts": true, "portDefinitions":
        [{"port": 9000, "protocol": "udp", "name": "dns", "labels": {"a": "b"}}, {"port": 0}]}));
    assert_eq!(fixed.ports[0].host, HostPort::Fixed(9000));
    assert_eq!(fixed.ports[1].host, HostPort::Dynamic);
}

#[test]
fn health_checks_without_a_port_take_the_first() {
    let made = spec(json!({"cmd": "x", "healthChecks": [
        {"protocol": "HTTP", "path": "health"},
        {"protocol": "COMMAND", "command": {"value": "true"}, "portIndex": 0},
        {"protocol": "MESOS_TCP", "port": 443, "gracePeriodSeconds": 5, "intervalSeconds": 2,
         "timeoutSeconds": 1, "maxConsecutiveFailures": 0, "delaySeconds": 0},
        {"protocol": "HTTPS", "ignoreHttp1xx": true},
    ]}));
    let probes: Vec<&Probe> = made
        .health_checks
        .iter()
        .map(|check| &check.probe)
        .collect();
    let http = Probe::Http {
        tls: false,
        path: "/health".to_owned(),
        port: ProbePort::Index(0),
    };
    assert_eq!(probes[0], &http);
    assert_eq!(probes[1], &Probe::Command("true".to_owned()));
    assert_eq!(
        probes[2],
        &Probe::Tcp {
            port: ProbePort::Number(443)
        }
    );
    assert_eq!(made.health_checks[0].grace, Millis::seconds(300));
    assert_eq!(made.health_checks[0].delay, Millis::seconds(15));
    assert_eq!(made.health_checks[2].max_failures, 0);
    assert!(made.health_checks[3].ignore_http_1xx);
}

#[test]
fn every_parameter_that_is_done_reaches_the_options() {
    let pairs = [
        ("hostname", "db.weave.local"),
        ("user", "1000:1000"),
        ("workdir", "/srv"),
        ("entrypoint", "/bin/run"),
        ("env", "A=b=c"),
        ("label", "x=y"),
        ("label", "z"),
        ("cap-add", "CAP_NET_ADMIN"),
        ("cap-drop", "all"),
        ("ulimit", "nofile=10:20"),
        ("memory", "64m"),
        ("pids-limit", "100"),
        ("read-only", "true"),
        ("tmpfs", "/run:size=1m"),
        ("shm-size", "128m"),
        ("stop-signal", "QUIT"),
        ("stop-timeout", "7"),
        ("init", "false"),
        ("security-opt", "no-new-privileges=false"),
        ("log-driver", "syslog"),
        ("log-opt", "tag=db"),
        ("volume-driver", "flocker"),
        ("volume", "pg:/data/"),
        ("volume", "/etc/x:/etc/y:ro"),
        ("publish", "5432:5432"),
    ];
    let list: Vec<Value> = pairs
        .iter()
        .map(|(k, v)| json!({"key": k, "value": v}))
        .collect();
    let made = spec(docker("BRIDGE", json!({"parameters": list})));
    let options = &made.image().unwrap().options;
    assert_eq!(options.hostname.as_deref(), Some("db.weave.local"));
    assert_eq!(options.user.as_deref(), Some("1000:1000"));
    assert_eq!(options.workdir.as_deref(), Some("/srv"));
    assert_eq!(options.entrypoint, Some(vec!["/bin/run".to_owned()]));
    assert_eq!(options.env["A"], "b=c");
    assert_eq!(
        (options.labels["x"].as_str(), options.labels["z"].as_str()),
        ("y", "")
    );
    assert_eq!(
        (&options.cap_add[0][..], &options.cap_drop[0][..]),
        ("NET_ADMIN", "ALL")
    );
    assert_eq!((options.ulimits[0].soft, options.ulimits[0].hard), (10, 20));
    assert_eq!(
        (options.memory, options.shm_size),
        (Some(64 << 20), Some(128 << 20))
    );
    assert_eq!((options.pids_limit, options.read_only), (Some(100), true));
    assert_eq!(options.tmpfs[0].size, Some(1 << 20));
    assert_eq!(options.stop_signal.as_deref(), Some("SIGQUIT"));
    assert_eq!(options.stop_timeout, Some(7));
    assert_eq!(options.no_new_privileges, Some(false));
    assert_eq!(options.log_tag.as_deref(), Some("db"));
    assert_eq!(made.mounts[0].path, "/data");
    assert!(matches!(
        &made.mounts[0].source,
        MountSource::Volume {
            form: VolumeForm::Parameter,
            ..
        }
    ));
    assert_eq!(
        made.mounts[1].source,
        MountSource::Host("/etc/x".to_owned())
    );
    assert!(made.mounts[1].read_only);
    assert_eq!(made.ports[0].host, HostPort::Fixed(5432));
    assert_eq!(
        made.image().unwrap().parameters.len(),
        pairs.len(),
        "all are shown again"
    );
}

#[test]
fn volumes_are_named_by_flocker_path_or_externally() {
    let made = spec(json!({"container": {"docker": {"image": "pg"}, "volumes": [
        {"containerPath": "/a", "hostPath": "/flocker/one", "mode": "RW"},
        {"containerPath": "/b", "mode": "RO", "external":
            {"name": "two", "provider": "dvdi", "size": 2, "options": {"dvdi/driver": "rexray"}}},
        {"containerPath": "/c", "hostPath": "/etc/ssl", "mode": "RO"},
    ]}}));
    let sizes: Vec<_> = made
        .volumes()
        .map(|(v, size)| (v.to_string(), size))
        .collect();
    assert_eq!(
        sizes,
        [
            ("one".to_owned(), None),
            ("two".to_owned(), Some(Quantity::whole(2048)))
        ]
    );
    assert!(made.mounts[1].read_only);
    assert_eq!(rendered("/x", &made)["unreachableStrategy"], "disabled");
}

#[test]
fn the_rest_of_an_app_is_kept_as_it_was_given() {
    let made = spec(json!({
        "cmd": "x", "user": "nobody", "instances": 3, "disk": 10.5, "env": {"A": "b"},
        "labels": {"l": "m"}, "dependencies": ["../db", "/other/app", "/other/app"],
        "backoffSeconds": 2, "backoffFactor": 1.5, "maxLaunchDelaySeconds": 60,
        "taskKillGracePeriodSeconds": 9, "killSelection": "OLDEST_FIRST", "role": "shop",
        "acceptedResourceRoles": ["*"],
        "unreachableStrategy": {"inactiveAfterSeconds": 5, "expungeAfterSeconds": 10},
        "upgradeStrategy": {"minimumHealthCapacity": 0.5, "maximumOverCapacity": 0.2},
        "constraints": [["rack", "group_by", 3], ["hostname", "UNIQUE", ""],
            ["hostname", "UNLIKE", "n[1-2]"], ["hostname", "MAX_PER", "2"], ["os", "IS", "linux"]],
        "resourceLimits": {"cpus": 2, "mem": "unlimited"},
        "readinessChecks": [{"path": "/ready"}], "check": {"tcp": {"port": 80}}, "tty": true,
        "residency": {"taskLostBehavior": "WAIT_FOREVER"}, "unknown": {"a": [1, null]},
    }));
    let dependencies: Vec<&str> = made.dependencies.iter().map(|id| id.as_str()).collect();
    assert_eq!(dependencies, ["/shop/db", "/other/app"]);
    assert_eq!(made.resources.cpu_limit, Some(Quantity::whole(2)));
    assert_eq!(made.kill_selection, KillSelection::OldestFirst);
    assert_eq!(made.kill_grace, Some(Millis::seconds(9)));
    assert_eq!(
        made.unreachable,
        Some(Unreachable::After {
            inactive: Millis::seconds(5),
            expunge: Millis::seconds(10)
        })
    );
    assert_eq!(made.constraints[0].value.as_deref(), Some("3"));
    assert_eq!(made.constraints[1].value, None);
    let shown = rendered("/shop/web", &made);
    assert_eq!(shown["readinessChecks"], json!([{"path": "/ready"}]));
    assert_eq!(shown["tty"], true);
    let paths: Vec<String> = warnings(&made).into_iter().map(|w| w.path).collect();
    assert_eq!(
        paths,
        ["/check", "/readinessChecks", "/resourceLimits", "/tty"]
    );
}

#[test]
fn an_update_changes_what_it_gives_and_nothing_else() {
    let mut before = spec(json!({"cmd": "x", "mem": 64, "env": {"A": "1", "B": "2"}}));
    before.ports[0].service = 10_007;
    let scaled = updated(&before, json!({"instances": 4}));
    assert!(scaled.differs_only_in_scale(&before) && scaled.instances == 4);
    let env = updated(&before, json!({"env": {"C": "3"}}));
    assert_eq!(env.env.len(), 1);
    assert_eq!(env.ports[0].service, 10_007);
    let nulls = updated(
        &before,
        json!({"cmd": null, "container": null, "mem": null}),
    );
    assert_eq!(nulls, before);
    let replaced = parse_app(json!({"cmd": "y"}).to_string().as_bytes()).unwrap();
    let replaced = merge(&id("/shop/web"), Some(&before), &replaced, false).unwrap();
    assert_eq!(replaced.resources.mem, Quantity::whole(128));
    assert_eq!(
        replaced.ports[0].service, 10_007,
        "a service port stays with its app"
    );
}

#[test]
fn cmd_and_args_take_one_anothers_place() {
    let before = spec(json!({"cmd": "x", "container": {"docker": {"image": "i"}}}));
    let args = updated(&before, json!({"args": ["a"]}));
    assert_eq!(args.command, Command::Args(vec!["a".to_owned()]));
    assert_eq!(
        updated(&args, json!({"cmd": "y"})).command,
        Command::Shell("y".to_owned())
    );
    assert_eq!(updated(&args, json!({"cmd": ""})).command, Command::Image);
    assert_eq!(
        updated(&before, json!({"args": []})).command,
        before.command
    );
}

#[test]
fn a_new_container_keeps_the_network_and_loses_the_old_mappings() {
    let before = spec(docker(
        "BRIDGE",
        json!({"portMappings": [{"containerPort": 80}]}),
    ));
    let after = updated(
        &before,
        json!({"container": {"docker": {"image": "other"}}}),
    );
    assert_eq!(after.network, Network::Bridge);
    assert_eq!(after.ports[0].container, 0);
    let host = updated(&before, json!({"networks": [{"mode": "host"}]}));
    assert_eq!(
        (host.network, host.ports[0].name.as_deref()),
        (Network::Host, Some("default"))
    );
    let bridge = spec(json!({"cmd": "x"}));
    let bridge = updated(&bridge, json!({"networks": [{"mode": "container/bridge"}]}));
    assert_eq!(bridge.container, Container::Mesos);
}

#[test]
fn an_upgrade_strategy_by_default_follows_the_kind_of_app() {
    let before = spec(json!({"container": {"docker": {"image": "pg"}}}));
    let after = updated(
        &before,
        json!({"container": {"docker": {"image": "pg"}, "volumes":
        [{"containerPath": "/data", "hostPath": "/flocker/pg"}]}}),
    );
    assert_eq!(after.upgrade.maximum_over, Quantity::ZERO);
    let back = updated(&after, json!({"container": {"docker": {"image": "pg"}}}));
    assert_eq!(back, before);
}

#[test]
fn of_two_spellings_the_changed_one_is_meant() {
    let mut before = spec(docker(
        "BRIDGE",
        json!({"portMappings":
        [{"containerPort": 80}, {"containerPort": 81}]}),
    ));
    before.ports[0].service = 10_001;
    before.ports[1].service = 10_002;
    let mut legacy = rendered("/shop/web", &before);
    legacy["container"]["docker"]["portMappings"][0]["containerPort"] = json!(8080);
    let mut canonical = rendered("/shop/web", &before);
    canonical["container"]["portMappings"][0]["containerPort"] = json!(8080);
    assert_eq!(updated(&before, legacy).ports[0].container, 8080);
    assert_eq!(updated(&before, canonical).ports[0].container, 8080);
    let mut fewer = rendered("/shop/web", &before);
    fewer["container"]["portMappings"] = json!([{"containerPort": 81}]);
    let fewer = updated(&before, fewer);
    assert_eq!((fewer.ports.len(), fewer.ports[0].service), (1, 10_002));

    let host = spec(json!({"cmd": "x", "ports": [9000]}));
    let mut ports = rendered("/shop/web", &host);
    ports["ports"] = json!([9001, 9002]);
    assert_eq!(updated(&host, ports).ports.len(), 2);
}

#[test]
fn a_body_with_only_a_version_is_a_rollback() {
    let update = |body: Value| parse_app(body.to_string().as_bytes()).unwrap();
    let version = "2026-11-21T12:22:06.218Z";
    assert_eq!(
        update(json!({"version": version, "id": "/x"})).rollback(),
        Some(Ok(version.parse().unwrap()))
    );
    assert_eq!(
        update(json!({"version": version, "cmd": "x"})).rollback(),
        None
    );
    assert!(matches!(
        update(json!({"version": "x"})).rollback(),
        Some(Err(_))
    ));
    assert_eq!(update(json!({"id": "a//b/"})).id(), Ok(Some(id("/a/b"))));
    assert_eq!(update(json!({"id": "A"})).id().unwrap_err().path, "/id");
    let list = parse_apps(br#"[{"id": "a"}, {"id": "b"}]"#).unwrap();
    assert_eq!(list[1].id(), Ok(Some(id("/b"))));
}
