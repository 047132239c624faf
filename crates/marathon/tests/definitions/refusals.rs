//! What is refused, with the path that Marathon names, and what must never panic.

use crate::common::merged;
use marathon::{Violation, fault};
use serde_json::{Value, json};

fn violations(body: &Value) -> Vec<Violation> {
    merged("/shop/web", None, &body.to_string()).expect_err(&body.to_string())
}

/// One violation, at this path, whose text holds these words.
fn refused(body: Value, path: &str, words: &str) {
    let found = violations(&body);
    let said = found
        .iter()
        .find(|violation| violation.path == path)
        .unwrap_or_else(|| panic!("no {path} among {found:?} for {body}"));
    let text = said.errors.join(" ");
    assert!(text.contains(words), "'{text}' lacks '{words}'");
}

fn with(field: &str, value: Value) -> Value {
    let mut body = json!({"cmd": "x"});
    body[field] = value;
    body
}

fn parameter(key: &str, value: &str) -> Value {
    json!({"container": {"docker": {"image": "i", "network": "BRIDGE",
        "parameters": [{"key": key, "value": value}]}}})
}

fn volume(fields: Value) -> Value {
    json!({"container": {"docker": {"image": "i"}, "volumes": [fields]}})
}

#[test]
fn amounts_and_names_have_bounds() {
    refused(with("instances", json!(-1)), "/instances", "negative");
    refused(with("cpus", json!(0)), "/cpus", "0.001");
    refused(with("cpus", json!(-1)), "/cpus", "negative");
    refused(with("mem", json!(1e300)), "/mem", "too big");
    refused(with("disk", json!(-0.5)), "/disk", "negative");
    refused(with("gpus", json!(1)), "/gpus", "no node offers gpus");
    refused(
        with("backoffFactor", json!(0.5)),
        "/backoffFactor",
        "at least 1",
    );
    refused(
        with("backoffSeconds", json!(-1)),
        "/backoffSeconds",
        "negative",
    );
    refused(
        with("taskKillGracePeriodSeconds", json!(-1)),
        "/taskKillGracePeriodSeconds",
        "negative",
    );
    refused(
        with("killSelection", json!("OLDEST")),
        "/killSelection",
        "OLDEST_FIRST",
    );
    refused(
        with("acceptedResourceRoles", json!([])),
        "/acceptedResourceRoles",
        "empty",
    );
    refused(
        with("acceptedResourceRoles", json!(["prod"])),
        "/acceptedResourceRoles",
        "'*'",
    );
    refused(with("env", json!({"A=B": "c"})), "/env/A=B", "'='");
    refused(with("cmd", json!("a\u{0}b")), "/cmd", "NUL");
    refused(
        with("dependencies", json!(["../web"])),
        "/dependencies(0)",
        "cyclic dependencies",
    );
    refused(
        with("dependencies", json!(["/A"])),
        "/dependencies(0)",
        "segment 'A'",
    );
    refused(
        with("dependencies", json!(["../.."])),
        "/dependencies(0)",
        "empty",
    );
    refused(
        with("upgradeStrategy", json!({"minimumHealthCapacity": 1.1})),
        "/upgradeStrategy/minimumHealthCapacity",
        "is not between 0 and 1",
    );
    refused(
        with(
            "unreachableStrategy",
            json!({"inactiveAfterSeconds": 9, "expungeAfterSeconds": 1}),
        ),
        "/unreachableStrategy/inactiveAfterSeconds",
        "greater",
    );
    refused(
        with("resourceLimits", json!({"cpus": 0.1})),
        "/resourceLimits/cpus",
        "at least",
    );
    refused(
        with("resourceLimits", json!({"mem": 1})),
        "/resourceLimits/mem",
        "at least",
    );
}

#[test]
fn commands_and_containers_must_make_sense() {
    refused(json!({}), "/", "'cmd' or 'args'");
    let both = violations(&json!({"cmd": "x", "args": ["y"]}));
    let [one] = both.as_slice() else {
        panic!("{both:?}")
    };
    assert!(one.path == "/" && one.errors.len() == 1 && one.errors[0].contains("not both"));
    refused(json!({"container": {"type": "MESOS"}}), "/", "image");
    refused(
        json!({"container": {}}),
        "/container/docker",
        "needs 'docker'",
    );
    refused(
        json!({"container": {"docker": {}}}),
        "/container/docker/image",
        "image's name",
    );
    refused(
        json!({"container": {"docker": {"image": "a b"}}}),
        "/container/docker/image",
        "spaces",
    );
    refused(
        json!({"container": {"type": "LXC", "docker": {"image": "x"}}}),
        "/container/type",
        "LXC",
    );
    refused(
        with("container", json!({"type": "MESOS", "linuxInfo": {}})),
        "/container/linuxInfo",
        "not supported",
    );
    refused(
        json!({"container": {"docker": {"image": "i", "pullConfig": {"secret": "s"}}}}),
        "/container/docker/pullConfig",
        "secret store",
    );
}

#[test]
fn what_is_not_there_yet_is_refused_by_name() {
    refused(
        with("uris", json!(["http://x/y.tgz"])),
        "/fetch",
        "put them into the image",
    );
    refused(
        with("fetch", json!([{"uri": "http://x"}])),
        "/fetch",
        "not supported yet",
    );
    refused(
        with("storeUrls", json!(["http://x"])),
        "/storeUrls",
        "not supported yet",
    );
    refused(
        with("secrets", json!({"s": {"source": "/s"}})),
        "/secrets",
        "no secret store",
    );
    refused(
        with("env", json!({"P": {"secret": "s"}})),
        "/env/P",
        "no secret store",
    );
    let twice = json!({"cmd": "x", "uris": ["a"], "fetch": [{"uri": "b"}]});
    refused(twice, "/uris", "disagree");
}

#[test]
fn volumes_are_one_writers_and_below_the_root() {
    let path = "/container/volumes(0)";
    refused(
        volume(json!({"containerPath": "data", "hostPath": "/x"})),
        "/container/volumes(0)/containerPath",
        "absolute",
    );
    refused(
        volume(json!({"containerPath": "/", "hostPath": "/x"})),
        "/container/volumes(0)/containerPath",
        "below",
    );
    refused(
        volume(json!({"containerPath": "/a/../b", "hostPath": "/x"})),
        "/container/volumes(0)/containerPath",
        "'..'",
    );
    refused(
        volume(json!({"containerPath": "/a", "hostPath": "x"})),
        "/container/volumes(0)/hostPath",
        "absolute",
    );
    refused(
        volume(json!({"containerPath": "/a", "hostPath": "/flocker/a/b"})),
        "/container/volumes(0)/hostPath",
        "no volume name",
    );
    refused(
        volume(json!({"containerPath": "/a", "hostPath": "/flocker"})),
        "/container/volumes(0)/hostPath",
        "/flocker/NAME",
    );
    refused(
        volume(json!({"containerPath": "/a", "hostPath": "/x", "mode": "RX"})),
        "/container/volumes(0)/mode",
        "RO nor RW",
    );
    refused(
        volume(json!({"containerPath": "/a"})),
        path,
        "hostPath or external",
    );
    refused(
        volume(json!({"containerPath": "/a", "persistent": {"size": 1}})),
        "/container/volumes(0)/persistent",
        "named volume",
    );
    refused(
        volume(json!({"containerPath": "/a", "secret": "s"})),
        "/container/volumes(0)/secret",
        "secret store",
    );
    refused(
        volume(json!({"containerPath": "/a", "external": {"provider": "dvdi"}})),
        "/container/volumes(0)/external/name",
        "no volume name",
    );
    refused(
        volume(json!({"containerPath": "/a", "external": {"name": "v", "size": 0}})),
        "/container/volumes(0)/external/size",
        "at least 1",
    );
    let mut two = volume(json!({"containerPath": "/a", "hostPath": "/flocker/v"}));
    two["instances"] = json!(2);
    refused(two, "/instances", "volume 'v'");
    let same = json!({"container": {"docker": {"image": "i"}, "volumes": [
        {"containerPath": "/a", "hostPath": "/flocker/v"},
        {"containerPath": "/a/", "hostPath": "/flocker/v"}]}});
    refused(same.clone(), "/container/volumes", "container path /a");
    refused(same, "/container/volumes", "'v' is given twice");
    refused(
        with(
            "container",
            json!({"type": "MESOS", "volumes": [{"containerPath": "/a", "hostPath": "/b"}]}),
        ),
        "/container/volumes",
        "with an image",
    );
}

#[test]
fn fixed_addresses_are_addresses_of_one_instance() {
    let weave = |text: &str| {
        let mut body = with("networks", json!([{"mode": "container/bridge"}]));
        body["env"] = json!({"WEAVE_CIDR": text});
        body
    };
    refused(
        with("env", json!({"WEAVE_CIDR": "10.0.0.1/24"})),
        "/env/WEAVE_CIDR",
        "on the host's",
    );
    for bad in [
        "x",
        "10.0.0.1",
        "10.0.0.1/33",
        "10.0.0.1/0",
        "0.0.0.1/8",
        "127.0.0.1/8",
        "224.0.0.1/8",
        "net:default",
    ] {
        refused(weave(bad), "/env/WEAVE_CIDR", "like 10.255.0.10/24");
    }
    refused(weave("10.0.0.1/24, 10.0.0.1/8"), "/env/WEAVE_CIDR", "twice");
    let mut two = weave("10.0.0.1/24 10.0.0.2/24");
    two["instances"] = json!(2);
    refused(two, "/instances", "10.0.0.1 cannot be shared");
    let good = merged("/x", None, &weave("10.0.0.1/24,ip:10.0.0.2/8").to_string()).unwrap();
    assert_eq!(good.fixed_addresses.len(), 2);
}

#[test]
fn constraints_have_known_operators_and_expressions_that_compile() {
    let constraint = |words: Value| with("constraints", json!([words]));
    let path = "/constraints(0)";
    refused(constraint(json!(["a"])), path, "[field, operator]");
    refused(
        constraint(json!(["a", "b", "c", "d"])),
        path,
        "[field, operator]",
    );
    refused(constraint(json!(["", "UNIQUE"])), path, "field");
    refused(
        constraint(json!(["a", "UNIQ"])),
        path,
        "did you mean 'UNIQUE'?",
    );
    refused(
        constraint(json!(["a", "UNIQUE", "x"])),
        path,
        "takes no value",
    );
    refused(constraint(json!(["a", "LIKE"])), path, "needs a value");
    refused(
        constraint(json!(["a", "MAX_PER", "x"])),
        path,
        "whole number",
    );
    refused(
        constraint(json!(["a", "GROUP_BY", "1.5"])),
        path,
        "whole number",
    );
    refused(constraint(json!(["a", "IS", "a b"])), path, "letters");
    refused(
        constraint(json!(["a", "LIKE", "(?!x)y"])),
        path,
        "look-around",
    );
    refused(
        constraint(json!(["a", "UNLIKE", r"(a)\1"])),
        path,
        "back-reference",
    );
    refused(
        constraint(json!(["a", "LIKE", "(?>a)b"])),
        path,
        "atomic group",
    );
    refused(
        constraint(json!(["a", "LIKE", "("])),
        path,
        "no regular expression",
    );
    refused(
        constraint(json!(["a", "LIKE", "a)|(b"])),
        path,
        "no regular expression",
    );
    refused(
        constraint(json!(["a", "LIKE", "(a{999}){999}"])),
        path,
        "no regular expression",
    );
}

#[test]
fn health_checks_must_be_possible() {
    let check = |fields: Value| with("healthChecks", json!([fields]));
    let path = "/healthChecks(0)";
    let at = |field: &str| format!("{path}/{field}");
    refused(
        check(json!({"protocol": "HTTTP"})),
        &at("protocol"),
        "did you mean 'HTTP'?",
    );
    refused(
        check(json!({"protocol": "COMMAND"})),
        &at("command"),
        "needs a command",
    );
    refused(
        check(json!({"portIndex": 1})),
        &at("portIndex"),
        "must address an element",
    );
    refused(
        check(json!({"port": 0})),
        &at("port"),
        "between 1 and 65535",
    );
    refused(check(json!({"port": 80, "portIndex": 0})), path, "not both");
    refused(
        check(json!({"intervalSeconds": 0})),
        &at("intervalSeconds"),
        "at least 1",
    );
    refused(
        check(json!({"timeoutSeconds": -1})),
        &at("timeoutSeconds"),
        "negative",
    );
    refused(
        check(json!({"ipProtocol": "IPv6"})),
        &at("ipProtocol"),
        "IPv4",
    );
    let mut portless = check(json!({"protocol": "TCP"}));
    portless["ports"] = json!([]);
    refused(portless, &at("portIndex"), "the app has 0");
}

#[test]
fn ports_and_networks_must_agree() {
    refused(
        with("ports", json!([70_000])),
        "/ports(0)",
        "between 0 and 65535",
    );
    refused(
        with("portDefinitions", json!([{"port": -1}])),
        "/portDefinitions(0)/port",
        "between",
    );
    refused(
        with("portDefinitions", json!([{"protocol": "sctp"}])),
        "/portDefinitions(0)/protocol",
        "sctp",
    );
    let named = json!([{"name": "a"}, {"name": "a"}]);
    refused(
        with("portDefinitions", named),
        "/portDefinitions",
        "must be unique",
    );
    let mut twice = with("portDefinitions", json!([{"port": 9}, {"port": 9}]));
    refused(twice.clone(), "/portDefinitions", "9 is given twice");
    twice["requirePorts"] = json!(true);
    refused(twice, "/portDefinitions", "9 is given twice");
    refused(with("ports", json!([9, 9])), "/ports", "9 is given twice");
    let mappings = |field: &str, number: i32| {
        let one = json!({"containerPort": 80, field: number});
        let two = json!({"containerPort": 81, field: number});
        json!({"networks": [{"mode": "container/bridge"}],
            "container": {"docker": {"image": "i"}, "portMappings": [one, two]}})
    };
    for field in ["servicePort", "hostPort"] {
        refused(
            mappings(field, 9),
            "/container/portMappings",
            "9 is given twice",
        );
        merged("/x", None, &mappings(field, 0).to_string()).unwrap();
    }
    merged("/x", None, r#"{"cmd": "x", "ports": [0, 0]}"#).unwrap();
    let both = json!({"cmd": "x", "ports": [1], "portDefinitions": [{"port": 2}]});
    refused(both, "/portDefinitions", "disagree");
    refused(
        with("networks", json!([{"mode": "hots"}])),
        "/networks(0)/mode",
        "did you mean 'host'?",
    );
    refused(
        with(
            "networks",
            json!([{"mode": "container", "name": "a"}, {"mode": "container", "name": "b"}]),
        ),
        "/networks",
        "one network only",
    );
    let bridge = |rest: Value| {
        let mut body = json!({"container": {"docker": {"image": "i", "network": "BRIDGE"}}});
        for (key, value) in rest.as_object().unwrap() {
            body[key] = value.clone();
        }
        body
    };
    refused(
        bridge(json!({"networks": [{"mode": "host"}]})),
        "/networks",
        "disagree",
    );
    refused(bridge(json!({"ipAddress": {}})), "/ipAddress", "USER");
    refused(
        json!({"container": {"docker": {"image": "i", "network": "NONE"}}}),
        "/container/docker/network",
        "NONE",
    );
    refused(
        json!({"container": {"docker": {"image": "i"}, "portMappings": [{"containerPort": 80}]}}),
        "/container/portMappings",
        "on the host's",
    );
    refused(
        json!({"networks": [{"mode": "container/bridge"}], "container": {
            "docker": {"image": "i", "portMappings": [{"containerPort": 80}]},
            "portMappings": [{"containerPort": 81}]}}),
        "/container/portMappings",
        "disagree",
    );
}

#[test]
fn parameters_are_refused_by_name() {
    let path = "/container/docker/parameters(0)";
    for (key, value, words) in [
        ("hostnme", "x", "did you mean 'hostname'?"),
        ("dns", "8.8.8.8", "'dns': is not supported"),
        ("", "x", "is not supported"),
        ("hostname", "a b", "no host name"),
        ("volume", "data", "NAME:/path"),
        ("volume", "data:path", "absolute"),
        ("volume", "data:/path:shared", "'shared'"),
        ("volume", "../x:/y", "no volume name"),
        ("publish", "x:80", "no port"),
        ("publish", "8000-8010:80", "ranges"),
        ("env", "A", "KEY=VALUE"),
        ("workdir", "srv", "absolute"),
        ("cap-add", "NET_ADMN", "did you mean 'NET_ADMIN'?"),
        ("ulimit", "nofile", "KEY=VALUE"),
        ("memory", "lots", "no size"),
        ("memory", "1k", "the minimum is 6m"),
        ("memory", "6291455", "the minimum is 6m"),
        ("init", "true", "only init=false"),
        ("init", "", "only init=false"),
        ("init", "maybe", "true nor false"),
        ("pids-limit", "x", "processes"),
        ("read-only", "maybe", "true nor false"),
        ("tmpfs", "/x:uid=1", "uid=1"),
        ("stop-signal", "SIGX", "no signal"),
        ("stop-timeout", "1s", "seconds"),
        (
            "security-opt",
            "seccomp=unconfined",
            "only no-new-privileges",
        ),
        ("log-opt", "tag", "KEY=VALUE"),
        ("user", "", "needs a value"),
    ] {
        refused(parameter(key, value), path, words);
    }
    let host = json!({"container": {"docker": {"image": "i",
        "parameters": [{"key": "publish", "value": "80:80"}]}}});
    refused(host, path, "needs a bridge");
}

#[test]
fn single_instance_apps_are_single() {
    let body =
        json!({"cmd": "x", "instances": 2, "labels": {"MARATHON_SINGLE_INSTANCE_APP": "true"}});
    refused(body.clone(), "/instances", "at most one");
    refused(
        body,
        "/upgradeStrategy",
        "minimumHealthCapacity and maximumOverCapacity 0",
    );
}

#[test]
fn all_faults_are_said_at_once() {
    let found = violations(&json!({
        "cpus": -1, "instances": -1, "constraints": [["a", "X"], ["b", "LIKE", "("]],
        "container": {"docker": {"image": "", "parameters": [{"key": "foo", "value": "x"}]}},
    }));
    let mut paths: Vec<&str> = found
        .iter()
        .map(|violation| violation.path.as_str())
        .collect();
    paths.sort_unstable();
    assert_eq!(
        paths,
        [
            "/constraints(0)",
            "/constraints(1)",
            "/container/docker/image",
            "/container/docker/parameters(0)",
            "/cpus",
            "/instances",
        ]
    );
    let body = fault::invalid(&found);
    assert_eq!(body["message"], "Object is not valid");
    assert_eq!(body["details"].as_array().map(Vec::len), Some(6));
}
