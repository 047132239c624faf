//! Definitions that users wrote for Marathon years ago, as they wrote them.

use crate::common::{id, merged, rendered, round_trip, wild};
use marathon::{merge, parse_app, warnings};
use model::quantity::Quantity;
use model::spec::{
    AppSpec, Command, Constraint, FixedAddress, HostPort, Mount, MountSource, Network, Operator,
    VolumeForm,
};
use serde_json::json;

fn constraint(field: &str, operator: Operator, value: Option<&str>) -> Constraint {
    Constraint {
        field: field.to_owned(),
        operator,
        value: value.map(str::to_owned),
    }
}

#[test]
fn myapp_takes_its_service_port_from_legacy_ports() {
    let spec = wild("/myapp", "start_myapp.json");
    let image = spec.image().expect("a docker app");
    assert_eq!(image.image, "192.168.58.201:5000/myapp:latest");
    assert_eq!(spec.network, Network::Bridge);
    assert_eq!(spec.resources.cpus, Quantity(100));
    assert_eq!(spec.resources.mem, Quantity::whole(100));
    assert_eq!(spec.ports.len(), 1);
    let port = &spec.ports[0];
    assert_eq!(
        (port.container, port.host, port.service),
        (80, HostPort::Dynamic, 10_000)
    );
    assert!(warnings(&spec).is_empty());
}

#[test]
fn the_to_do_app_keeps_its_address_and_takes_an_empty_cmd_as_absent() {
    let spec = wild("/app", "app.json");
    assert_eq!(spec.command, Command::Image);
    assert_eq!(
        spec.fixed_addresses,
        [FixedAddress {
            address: [10, 255, 0, 11].into(),
            prefix: 24
        }]
    );
    assert_eq!(spec.ports[0].host, HostPort::Fixed(8000));
    assert_eq!(spec.ports[0].service, 8000);
    assert_eq!(
        spec.constraints,
        [constraint("disk", Operator::Cluster, Some("spinning"))]
    );
    let image = spec.image().expect("a docker app");
    assert!(
        !image.force_pull,
        "forcePullImage stands in the wrong place"
    );
}

#[test]
fn the_to_do_database_has_a_flocker_volume() {
    let spec = wild("/mongo", "db.json");
    assert_eq!(
        spec.mounts,
        [Mount {
            path: "/data/db".to_owned(),
            source: MountSource::Volume {
                volume: model::VolumeId::parse("mongodata").unwrap(),
                size: None,
                form: VolumeForm::Flocker,
            },
            read_only: false,
        }]
    );
    assert_eq!(spec.upgrade.maximum_over, Quantity::ZERO);
    assert_eq!(
        spec.ports[0].container, 0,
        "bridge without mappings has the default one"
    );
}

#[test]
fn the_interface_lister_has_args_and_a_wide_prefix() {
    let spec = wild("/testweave", "testweave.json");
    assert_eq!(spec.command, Command::Args(vec!["apples".to_owned()]));
    assert_eq!(
        spec.fixed_addresses,
        [FixedAddress {
            address: [10, 255, 0, 52].into(),
            prefix: 8
        }]
    );
}

#[test]
fn the_three_tiers_are_read_from_docker_parameters() {
    let nginx = wild("/application/web/nginx", "nginx.json.j2");
    let image = nginx.image().expect("a docker app");
    assert_eq!(image.image, "10.0.15.10:5000/application/web/nginx:1");
    assert!(image.force_pull);
    assert_eq!(image.options.hostname.as_deref(), Some("nginx.weave.local"));
    assert_eq!(image.options.log_tag.as_deref(), Some("nginx"));
    assert_eq!(
        nginx.ports.len(),
        1,
        "publish stands in place of the default mapping"
    );
    assert_eq!(
        (nginx.ports[0].container, nginx.ports[0].host),
        (80, HostPort::Fixed(9080))
    );
    assert!(nginx.ports[0].published);
    let said = warnings(&nginx);
    assert_eq!(said.len(), 1);
    assert!(
        said[0].message.contains("forwarding comes later"),
        "{said:?}"
    );

    let node = wild("/application/app/nodeapp", "nodeapp.json.j2");
    assert_eq!(node.instances, 2);
    assert_eq!(
        node.constraints,
        [constraint("slavetype", Operator::Cluster, Some("app"))]
    );

    let mongo = wild("/application/db/mongo", "mongo.json.j2");
    assert_eq!(
        mongo.constraints,
        [
            constraint("hostname", Operator::Unique, None),
            constraint("hostname", Operator::Like, Some("10.0.15.12")),
        ]
    );
    assert_eq!(mongo.mounts.len(), 1);
    assert_eq!(mongo.mounts[0].path, "/data");
    let volumes: Vec<String> = mongo.volumes().map(|(v, _)| v.to_string()).collect();
    assert_eq!(volumes, ["mongo"]);
}

#[test]
fn the_same_file_put_twice_changes_nothing() {
    for (app, file) in crate::common::WILD {
        let mut first = wild(app, file);
        // The master gives service ports between the two.
        for (n, port) in first.ports.iter_mut().enumerate() {
            if port.service == 0 {
                port.service = 10_100 + u16::try_from(n).unwrap();
            }
        }
        let update = parse_app(crate::common::text(app, file).as_bytes()).unwrap();
        for partial in [true, false] {
            let second = merge(&id(app), Some(&first), &update, partial);
            assert_eq!(second.as_ref(), Ok(&first), "{file}");
        }
    }
}

#[test]
fn what_is_rendered_reads_back_as_the_same_spec() {
    for (app, file) in crate::common::WILD {
        round_trip(app, &wild(app, file));
    }
}

#[test]
fn a_client_may_send_back_what_it_read_with_one_field_changed() {
    let nginx = wild("/application/web/nginx", "nginx.json.j2");
    let mut body = rendered("/application/web/nginx", &nginx);
    body["container"]["docker"]["parameters"] = json!([]);
    let update = parse_app(body.to_string().as_bytes()).unwrap();
    let after = merge(&id("/application/web/nginx"), Some(&nginx), &update, true).unwrap();
    assert_eq!(
        after
            .ports
            .iter()
            .filter(|p| p.host == HostPort::Fixed(9080))
            .count(),
        0
    );

    let mut body = rendered("/application/web/nginx", &nginx);
    body["container"]["docker"]["network"] = json!("USER");
    let update = parse_app(body.to_string().as_bytes()).unwrap();
    let after = merge(&id("/application/web/nginx"), Some(&nginx), &update, true).unwrap();
    assert_eq!(after.network, Network::Container("tandem".to_owned()));
}

#[test]
fn ssd_in_place_of_spinning_is_all_that_differs() {
    let text = crate::common::text("/mongo", "db.json");
    let before = merged("/mongo", None, &text).unwrap();
    let after = merged("/mongo", None, &text.replace("spinning", "ssd")).unwrap();
    assert_eq!(after.constraints[0].value.as_deref(), Some("ssd"));
    assert_eq!(
        AppSpec {
            constraints: before.constraints.clone(),
            ..after
        },
        before
    );
}
