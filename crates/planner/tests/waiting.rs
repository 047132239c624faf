//! Waiting for room: who asks the same stands in one line, and is served in its order.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Cluster, app, machine, spec};
use model::AppSpec;
use model::quantity::Quantity;
use model::spec::{Constraint, Operator, Wanted};
use planner::request::{self, Force};

/// One instance that takes most of a node.
fn big() -> AppSpec {
    AppSpec {
        resources: Wanted {
            mem: Quantity::whole(700),
            ..Wanted::default()
        },
        ..spec(1)
    }
}

fn pinned(spec: AppSpec, disk: &str) -> AppSpec {
    AppSpec {
        constraints: vec![Constraint {
            field: "disk".into(),
            operator: Operator::Like,
            value: Some(disk.into()),
        }],
        ..spec
    }
}

fn remove(cluster: &mut Cluster, id: &str) {
    cluster
        .ask(|draft| request::remove_app(draft, &app(id), Force::Yes))
        .unwrap();
    cluster.settle();
}

#[test]
fn those_who_wait_are_served_in_the_order_in_which_they_came() {
    let mut cluster = Cluster::new(1);
    // Not the order of their names.
    for id in ["/has", "/c", "/a", "/b"] {
        cluster.put(id, &big());
        cluster.settle();
    }
    for (gone, next, later) in [("/has", "/c", "/a"), ("/c", "/a", "/b"), ("/a", "/b", "/c")] {
        assert_eq!(cluster.show(next), "");
        remove(&mut cluster, gone);
        assert_eq!(cluster.show(next), "n1:running");
        assert!(matches!(cluster.show(later).as_str(), "" | "none"));
    }
}

#[test]
fn one_that_is_removed_while_it_waits_holds_nobody_up() {
    let mut cluster = Cluster::new(1);
    for id in ["/has", "/first", "/second"] {
        cluster.put(id, &big());
        cluster.settle();
    }
    remove(&mut cluster, "/first");
    remove(&mut cluster, "/has");
    assert_eq!(cluster.show("/second"), "n1:running");
}

#[test]
fn room_for_several_serves_several() {
    let mut cluster = Cluster::new(1);
    cluster.put("/has", &big());
    let small = AppSpec {
        resources: Wanted {
            mem: Quantity::whole(340),
            ..Wanted::default()
        },
        ..spec(1)
    };
    for id in ["/a", "/b", "/c", "/d"] {
        cluster.put(id, &small);
        cluster.settle();
    }
    remove(&mut cluster, "/has");
    let running = ["/a", "/b", "/c", "/d"].map(|id| cluster.show(id) == "n1:running");
    assert_eq!(running, [true, true, true, false]);
}

#[test]
fn those_who_ask_for_more_do_not_hold_up_those_who_ask_for_less() {
    let mut cluster = Cluster::new(0);
    cluster.put("/picky", &pinned(spec(1), "ssd"));
    cluster.put("/easy", &spec(1));
    cluster.settle();
    assert_eq!(
        (cluster.show("/picky"), cluster.show("/easy")),
        Default::default()
    );
    cluster.join(machine("n1"));
    cluster.settle();
    assert_eq!(
        (
            cluster.show("/picky").as_str(),
            cluster.show("/easy").as_str()
        ),
        ("", "n1:running")
    );
    let mut with_disk = machine("n2");
    with_disk.attributes.insert("disk".into(), "ssd".into());
    cluster.join(with_disk);
    cluster.settle();
    assert_eq!(cluster.show("/picky"), "n2:running");
}
